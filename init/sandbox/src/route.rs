//! Routing: which component serves a session request, and under which label.

use crate::label;
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Label attributes of a rule. Values are trimmed of blanks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LabelPattern {
    /// `label`: all that the child gave.
    pub label: Option<String>,
    /// `label_prefix`: how that begins.
    pub prefix: Option<String>,
    /// `label_suffix`: how that ends.
    pub suffix: Option<String>,
    /// `label_last`: last element of the whole label. Makes the others void.
    pub last: Option<String>,
    /// `unscoped_label`: the whole label. Makes the scoped ones void.
    pub unscoped: Option<String>,
}

impl LabelPattern {
    fn matches(&self, child: &str, full_label: &str) -> bool {
        if let Some(last) = &self.last {
            return label::last_element(full_label).trim() == last;
        }
        if let Some(unscoped) = &self.unscoped {
            return full_label.trim() == unscoped;
        }
        if self.label.is_none() && self.prefix.is_none() && self.suffix.is_none() {
            return true;
        }
        label::scoped(child, full_label).map(str::trim).is_some_and(|scoped| {
            self.label.as_ref().is_none_or(|label| scoped == label)
                && self.prefix.as_ref().is_none_or(|prefix| scoped.starts_with(prefix.as_str()))
                && self.suffix.as_ref().is_none_or(|suffix| scoped.ends_with(suffix.as_str()))
        })
    }
}

/// Who is to serve.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Destination {
    /// `<parent/>`
    Parent,
    /// `<child name=".."/>`: a child or an alias.
    Child(String),
    /// `<any-child/>`: the only child that provides the service.
    AnyChild,
}

/// A target of a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// Who is to serve.
    pub destination: Destination,
    /// `label`: replaces the label.
    pub label: Option<String>,
    /// `identity`: replaces all elements but the last.
    pub identity: Option<String>,
    /// `resource`: replaces the last element.
    pub resource: Option<String>,
    /// `prepend_resource`: put before the last element.
    pub prepend_resource: Option<String>,
}

impl Target {
    /// A target that leaves the label alone.
    #[must_use]
    pub const fn new(destination: Destination) -> Self {
        Self { destination, label: None, identity: None, resource: None, prepend_resource: None }
    }

    /// The label that the server sees.
    fn rewrite(&self, full_label: &str) -> String {
        if let Some(label) = &self.label {
            return label.clone();
        }
        if self.identity.is_none() && self.resource.is_none() && self.prepend_resource.is_none() {
            return full_label.to_owned();
        }
        let identity = self.identity.as_deref().unwrap_or_else(|| label::prefix(full_label));
        let resource = self.resource.as_deref().unwrap_or_else(|| label::last_element(full_label));
        let resource = [self.prepend_resource.as_deref().unwrap_or(""), resource].concat();
        if identity.is_empty() { resource } else { label::prefixed(identity, &resource) }
    }
}

/// A rule of a route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// `<service name="..">`; `None` for `<any-service>`.
    pub service: Option<String>,
    /// Which labels it is for.
    pub pattern: LabelPattern,
    /// Candidates, in order.
    pub targets: Vec<Target>,
}

/// A child that provides a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Provider<'a> {
    /// Name of the child.
    pub child: &'a str,
    /// It is being destroyed and serves nobody any more.
    pub abandoned: bool,
}

/// Who provides what.
pub trait Providers {
    /// Whether the parent provides `service`.
    fn parent(&self, service: &str) -> bool;
    /// The children that provide `service`, in document order.
    fn children<'a>(&'a self, service: &str) -> impl Iterator<Item = Provider<'a>>;
    /// The child that `name` stands for, if it is an alias.
    fn alias(&self, name: &str) -> Option<&str>;
}

/// Server of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Server<'a> {
    /// The parent.
    Parent,
    /// A sibling of the client.
    Child(&'a str),
}

/// Why a request is denied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Denial {
    /// No rule leads to a server.
    NoRoute,
    /// `<any-child/>` with several providers.
    Ambiguous,
    /// The server is being destroyed.
    Abandoned,
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoRoute => "no route to service",
            Self::Ambiguous => "ambiguous routes to service",
            Self::Abandoned => "service was abandoned",
        })
    }
}

/// A session request, as its client's parent sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request<'a> {
    /// The client.
    pub child: &'a str,
    /// What it asks for.
    pub service: &'a str,
    /// Label that begins with the client's name, or names what is asked for on its behalf.
    pub label: &'a str,
}

/// Finds the server and the label that it is to see.
///
/// The first rule that matches decides: with `<service>` for good, with `<any-service>` only if it leads to a
/// server. Within a rule the first target that provides the service is taken.
///
/// # Errors
/// See [`Denial`].
pub fn resolve<'p, P: Providers>(
    rules: &[Rule],
    request: Request<'_>,
    providers: &'p P,
) -> Result<(Server<'p>, String), Denial> {
    for rule in rules {
        let for_service = rule.service.as_ref().is_none_or(|service| service == request.service);
        if !for_service || !rule.pattern.matches(request.child, request.label) {
            continue;
        }
        for target in &rule.targets {
            if let Some(server) = serve(&target.destination, request.service, providers)? {
                return Ok((server, target.rewrite(request.label)));
            }
        }
        if rule.service.is_some() {
            break;
        }
    }
    Err(Denial::NoRoute)
}

fn serve<'p, P: Providers>(
    destination: &Destination,
    service: &str,
    providers: &'p P,
) -> Result<Option<Server<'p>>, Denial> {
    match destination {
        Destination::Parent => Ok(providers.parent(service).then_some(Server::Parent)),
        Destination::Child(name) => {
            let name = providers.alias(name).unwrap_or(name);
            match providers.children(service).find(|provider| provider.child == name) {
                Some(provider) if provider.abandoned => Err(Denial::Abandoned),
                found => Ok(found.map(|provider| Server::Child(provider.child))),
            }
        }
        Destination::AnyChild => {
            if providers.children(service).filter(|provider| !provider.abandoned).nth(1).is_some() {
                return Err(Denial::Ambiguous);
            }
            match providers.children(service).next() {
                Some(provider) if provider.abandoned => Err(Denial::Abandoned),
                first => Ok(first.map(|provider| Server::Child(provider.child))),
            }
        }
    }
}

#[cfg(test)]
mod tests;
