//! Serving sessions: from the parent's `session_requests` to session objects, with the donation checked.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use core::cell::RefCell;

use abi::session::affinity::Affinity;
use abi::session::args::Args;
use abi::session::parent::{Quota, Response};
use abi::session::rpc::{Interface, ServedBy};
use abi::session::wire::AnyObject;

use crate::capability::Cap;
use crate::entrypoint::{Entrypoint, Managed, SignalHandler};
use crate::env::Env;
use crate::error::Error;
use crate::quota::Guard;
use crate::requests::{self, Request};
use crate::rom::AttachedRom;
use crate::rpc::OwnUtcb;
use crate::warning;

/// Why a server makes no session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// By policy or for wrong arguments.
    Denied,
    /// Too little RAM was donated.
    InsufficientRam,
    /// Too few capabilities were donated.
    InsufficientCaps,
}

impl From<Refused> for Response {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Denied => Self::Denied,
            Refused::InsufficientRam => Self::InsufficientRam,
            Refused::InsufficientCaps => Self::InsufficientCaps,
        }
    }
}

/// What a client asks for.
#[derive(Clone, Copy, Debug)]
pub struct NewSession<'a> {
    /// Session arguments. The label in them is the identity of the client.
    pub args: Args<'a>,
    /// Where the client runs.
    pub affinity: Affinity,
    /// What is left of the donation for the server to spend on this client.
    pub guard: Guard,
}

/// A service: makes session objects with interface `I`.
pub trait Service<I>: 'static {
    /// The session object.
    type Session: 'static;
    /// Makes the session object for a client.
    ///
    /// # Errors
    /// The client is refused. Nothing of what was made for it is kept.
    fn create(&mut self, request: &NewSession<'_>) -> Result<Rc<RefCell<Self::Session>>, Refused>;
    /// A client has raised its donation.
    fn upgrade(&mut self, _session: &Rc<RefCell<Self::Session>>, _quota: Quota) {}
    /// A client is gone. The session must not keep anything that was paid by it.
    fn close(&mut self, _session: Rc<RefCell<Self::Session>>) {}
}

/// A service, whatever its interface.
trait AnyService {
    fn create(&self, entrypoint: &Entrypoint, request: NewSession<'_>) -> Result<Box<dyn OpenSession>, Refused>;
}

/// A session, whatever its interface.
trait OpenSession {
    fn cap(&self) -> Cap<AnyObject>;
    fn upgrade(&self, quota: Quota);
    fn close(self: Box<Self>);
}

type Shared<S> = Rc<RefCell<S>>;

struct Announced<I, S> {
    service: Shared<S>,
    interface: core::marker::PhantomData<fn() -> I>,
}

struct Open<I, S: Service<I>> {
    managed: Managed<I>,
    session: Shared<S::Session>,
    service: Shared<S>,
}

/// Kernel objects of a session itself: its portal.
const OWN_COST: Quota = Quota { ram: 0, caps: 1 };

impl<I, S> AnyService for Announced<I, S>
where
    I: ServedBy<S::Session, OwnUtcb>,
    S: Service<I>,
{
    fn create(&self, entrypoint: &Entrypoint, mut request: NewSession<'_>) -> Result<Box<dyn OpenSession>, Refused> {
        request.guard = guard::<I>(request.args.quota())?;
        let session = self.service.borrow_mut().create(&request)?;
        match entrypoint.manage::<I, _>(Rc::clone(&session)) {
            Ok(managed) => Ok(Box::new(Open { managed, session, service: Rc::clone(&self.service) })),
            Err(_) => {
                self.service.borrow_mut().close(session);
                Err(Refused::InsufficientCaps)
            }
        }
    }
}

impl<I: Interface, S: Service<I>> OpenSession for Open<I, S> {
    fn cap(&self) -> Cap<AnyObject> {
        self.managed.cap().clone().cast()
    }

    fn upgrade(&self, quota: Quota) {
        self.service.borrow_mut().upgrade(&self.session, quota);
    }

    fn close(self: Box<Self>) {
        let Self { managed, session, service } = *self;
        drop(managed);
        service.borrow_mut().close(session);
    }
}

/// Checks a donation against the interface's minimum and takes the session's own cost.
fn guard<I: Interface>(donated: Quota) -> Result<Guard, Refused> {
    if donated.caps < I::CAP_QUOTA.max(OWN_COST.caps) {
        return Err(Refused::InsufficientCaps);
    }
    if donated.ram < I::RAM_QUOTA {
        return Err(Refused::InsufficientRam);
    }
    let mut guard = Guard::new(donated);
    guard.withdraw(OWN_COST).map_err(|_| Refused::InsufficientCaps)?;
    Ok(guard)
}

/// The services and sessions of a component.
pub(crate) struct Root {
    rom: AttachedRom,
    services: BTreeMap<&'static str, Box<dyn AnyService>>,
    sessions: Sessions,
    _signal: SignalHandler,
}

impl core::fmt::Debug for Root {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        out.debug_struct("Root").finish_non_exhaustive()
    }
}

type Sessions = BTreeMap<u64, Box<dyn OpenSession>>;

impl Env {
    /// Serves sessions with interface `I` by `service`.
    ///
    /// # Errors
    /// The parent does not expect this component to provide the service, or there are no requests to be had.
    pub fn announce<I, S>(&'static self, service: S) -> Result<(), Error>
    where
        I: ServedBy<S::Session, OwnUtcb>,
        S: Service<I>,
    {
        if self.root().borrow().is_none() {
            let rom = AttachedRom::open(self, requests::ROM)?;
            let signal = self.entrypoint().signal_handler(|_| self.handle_requests())?;
            rom.sigh(signal.cap())?;
            let root = Root { rom, services: BTreeMap::new(), sessions: BTreeMap::new(), _signal: signal };
            *self.root().borrow_mut() = Some(root);
        }
        if let Some(root) = self.root().borrow_mut().as_mut() {
            let interface = core::marker::PhantomData::<fn() -> I>;
            let service = Rc::new(RefCell::new(service));
            root.services.insert(I::NAME, Box::new(Announced { service, interface }));
        }
        self.parent().announce(I::NAME)?;
        // Requests may have been waiting for the announcement.
        self.handle_requests();
        Ok(())
    }

    fn handle_requests(&'static self) {
        let mut root = self.root().borrow_mut();
        let Some(root) = root.as_mut() else {
            return;
        };
        let text = match root.rom.update().and_then(|()| root.rom.text()) {
            Ok(text) => text,
            Err(error) => {
                warning!("{}: {error}", requests::ROM);
                return;
            }
        };
        for request in requests::parse(&text) {
            self.handle_request(root, request);
        }
    }

    fn handle_request(&self, root: &mut Root, request: Request) {
        let parent = self.parent();
        // The parent's answers carry nothing, and without a parent nothing matters.
        let _answered = match request {
            Request::Upgrade { id, quota } => match root.sessions.get(&id) {
                Some(session) => {
                    session.upgrade(quota);
                    parent.session_response(id, Response::Ok)
                }
                None => return,
            },
            Request::Close { id } => {
                // An unknown session is closed: it was refused while the client left.
                if let Some(session) = root.sessions.remove(&id) {
                    session.close();
                }
                parent.session_response(id, Response::Closed)
            }
            Request::Create { id, service, args, affinity } => {
                // The node stays until the parent has digested the answer.
                if root.sessions.contains_key(&id) {
                    return;
                }
                let Some(service) = root.services.get(service.as_str()) else {
                    return;
                };
                let new = NewSession { args: Args(&args), affinity, guard: Guard::default() };
                match service.create(self.entrypoint(), new) {
                    Ok(session) => {
                        let cap = session.cap();
                        root.sessions.insert(id, session);
                        parent.deliver_session_cap(id, &cap)
                    }
                    Err(refused) => parent.session_response(id, refused.into()),
                }
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::session::timer::Timer;

    #[test]
    fn a_donation_below_the_interface_is_refused() {
        let enough = Timer::LEAST;
        assert_eq!(guard::<Timer>(Quota { caps: enough.caps - 1, ..enough }), Err(Refused::InsufficientCaps));
        assert_eq!(guard::<Timer>(Quota { ram: enough.ram - 1, ..enough }), Err(Refused::InsufficientRam));
        let guard = guard::<Timer>(enough).unwrap();
        assert_eq!(guard.available(), Quota { caps: enough.caps - 1, ..enough });
    }
}
