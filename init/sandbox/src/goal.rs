//! From a session request to the one that serves it: the routes, and the ROMs that the sandbox serves itself.

use crate::backend::{Backend, ChildId};
use crate::config::Config;
use crate::label;
use crate::route::{self, Denial, Provider, Providers, Request};
use crate::sandbox::{Child, Phase, Sandbox};
use crate::session::{Server, Session, State};
use abi::PAGE_SIZE;
use abi::session::parent::{Quota, SessionError};
use abi::session::rom::Rom;
use abi::session::rpc::Interface;
use alloc::collections::BTreeMap;
use alloc::string::String;
use runtime::requests;

/// Last label element of ROM sessions that the sandbox serves itself, beside that of [`requests`].
const CONFIG: &str = "config";

/// Who provides what among parent and children.
struct Known<'a, B: Backend> {
    config: &'a Config,
    children: &'a BTreeMap<ChildId, Child<B>>,
}

impl<B: Backend> Providers for Known<'_, B> {
    fn parent(&self, service: &str) -> bool {
        self.config.parent_provides.iter().any(|provided| provided == service)
    }
    fn children<'a>(&'a self, service: &str) -> impl Iterator<Item = Provider<'a>> {
        let service = String::from(service);
        self.children
            .values()
            .filter(move |child| child.start.provides.contains(&service))
            .map(|child| Provider { child: &child.start.name, abandoned: child.phase == Phase::Ended })
    }
    fn alias(&self, name: &str) -> Option<&str> {
        self.config.aliases.iter().find(|alias| alias.name == name).map(|alias| alias.child.as_str())
    }
}

/// Where a request goes.
pub(crate) enum Goal {
    Parent,
    Child(ChildId),
    Config(String),
    Requests,
}

impl<B: Backend> Sandbox<B> {
    pub(crate) fn goal(&self, child: &Child<B>, service: &str, label: &str) -> Result<(Goal, String), Denial> {
        if service == Rom::NAME {
            match (label::last_element(label), &child.start.config) {
                (CONFIG, Some(config)) => return Ok((Goal::Config(config.clone()), label.into())),
                (requests::ROM, _) => return Ok((Goal::Requests, label.into())),
                _ => {}
            }
        }
        let rules = child.start.route.as_ref().unwrap_or(&self.config.default_route);
        let request = Request { child: &child.start.name, service, label };
        let known = Known { config: &self.config, children: &self.children };
        let (server, label) = route::resolve(rules, request, &known)?;
        let goal = match server {
            route::Server::Parent => Goal::Parent,
            route::Server::Child(name) => {
                let live = |child: &Child<B>| child.start.name == name && child.phase != Phase::Ended;
                let server = self.children.iter().find(|(_, child)| live(child)).map(|(&id, _)| id);
                Goal::Child(server.ok_or(Denial::Abandoned)?)
            }
        };
        Ok((goal, label))
    }

    /// Lets the server make the session, or know of the request. Returns the child that is to be told.
    pub(crate) fn find_server(
        &mut self,
        goal: Goal,
        session: &mut Session<B>,
    ) -> Result<Option<ChildId>, SessionError> {
        let text = match goal {
            Goal::Parent => {
                let id = self.backend.new_session_id();
                session.server = Server::Parent(id);
                session.cap = self.backend.open(id, &session.service, &session.args, &session.affinity)?;
                if session.cap.is_some() {
                    session.state = State::HandedOut;
                }
                return Ok(None);
            }
            Goal::Child(server) => {
                session.server = Server::Child(server);
                // A server whose account is still to come gets the donation with it.
                if let Some(account) = self.children.get(&server).and_then(|child| child.account.as_ref()) {
                    self.backend.give(account, session.donated).map_err(|shortage| shortage.own())?;
                }
                return Ok(Some(server));
            }
            Goal::Config(text) => text,
            Goal::Requests => requests::write([]),
        };
        let price = price_of(&text);
        if session.donated.ram < price.ram {
            return Err(SessionError::InsufficientRam);
        }
        if session.donated.caps < price.caps {
            return Err(SessionError::InsufficientCaps);
        }
        let (rom, cap) = self.backend.serve_text(&text).map_err(|shortage| shortage.own())?;
        (session.server, session.cap, session.state) = (Server::Own(rom), Some(cap), State::HandedOut);
        Ok(None)
    }
}

/// What a client must donate for a text to be served: the text is there twice, as it is and in the client's dataspace.
fn price_of(text: &str) -> Quota {
    let ram = (text.len() as u64).next_multiple_of(PAGE_SIZE) * 2;
    Quota { ram: ram.max(Rom::RAM_QUOTA), ..Rom::LEAST }
}
