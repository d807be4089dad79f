//! ROM modules: snapshots of text or data.

use alloc::string::String;
use alloc::vec::Vec;

use abi::cap::MemRights;
use abi::session::dataspace::Dataspace;
use abi::session::rom::{Rom, RomError};
use abi::session::rpc::Error as CallError;
use abi::session::wire::Signal;

use crate::capability::Cap;
use crate::dataspace::Attached;
use crate::env::{Connection, Env};
use crate::error::Error;

/// A ROM session with its current content attached.
#[derive(Debug)]
pub struct AttachedRom {
    // Detached before the session is closed: fields are dropped in this order.
    content: Option<Content>,
    session: Connection<Rom>,
    env: &'static Env,
}

#[derive(Debug)]
struct Content {
    attached: Attached,
    dataspace: Cap<Dataspace>,
}

impl AttachedRom {
    /// Opens the module `name`.
    ///
    /// # Errors
    /// There is no session.
    pub fn open(env: &'static Env, name: &str) -> Result<Self, Error> {
        let session = env.connect_label::<Rom>(name, "")?;
        let mut rom = Self { content: None, session, env };
        rom.renew()?;
        Ok(rom)
    }

    /// Sets the signal for new content; submitted at once if there is some already.
    ///
    /// # Errors
    /// The session is dead.
    pub fn sigh(&self, sigh: &Cap<Signal>) -> Result<(), Error> {
        Ok(self.session.sigh(sigh)?)
    }

    /// Takes the newest content. The old one stays if there is none.
    ///
    /// # Errors
    /// The session is dead or the content cannot be attached.
    pub fn update(&mut self) -> Result<(), Error> {
        if self.content.is_some() && self.session.update()? {
            return Ok(());
        }
        self.renew()
    }

    /// The content's dataspace; `None` if it is empty.
    #[must_use]
    pub fn dataspace(&self) -> Option<&Cap<Dataspace>> {
        self.content.as_ref().map(|content| &content.dataspace)
    }

    /// The content, attached; `None` if it is empty.
    #[must_use]
    pub fn attached(&self) -> Option<&Attached> {
        self.content.as_ref().map(|content| &content.attached)
    }

    /// A copy of the content, with its padding.
    ///
    /// # Errors
    /// The RAM quota does not suffice for the copy.
    pub fn bytes(&self) -> Result<Vec<u8>, Error> {
        let Some(attached) = self.attached() else {
            return Ok(Vec::new());
        };
        attached.copy(0, attached.memory().size()).map_err(Error::input)
    }

    /// The content as text, up to the first zero.
    ///
    /// # Errors
    /// It is not UTF-8, or the RAM quota does not suffice for the copy.
    pub fn text(&self) -> Result<String, Error> {
        text_of(self.bytes()?)
    }

    fn renew(&mut self) -> Result<(), Error> {
        // The server may destroy the old dataspace with this call.
        self.content = None;
        let dataspace = match self.session.dataspace() {
            Ok(dataspace) => dataspace,
            Err(CallError::Server(RomError::Empty)) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let attached = self.env.attach(&dataspace, MemRights::READ)?;
        self.content = Some(Content { attached, dataspace });
        Ok(())
    }
}

/// Text is padded with zeros.
fn text_of(mut bytes: Vec<u8>) -> Result<String, Error> {
    let length = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(length);
    String::from_utf8(bytes).map_err(|error| Error::input(error.utf8_error()))
}

#[cfg(test)]
mod tests {
    use super::text_of;

    #[test]
    fn text_ends_at_its_padding() {
        assert_eq!(text_of(b"<config/>\n\0\0".to_vec()).unwrap(), "<config/>\n");
        assert_eq!(text_of(b"<config/>".to_vec()).unwrap(), "<config/>");
        assert!(text_of(b"\xff\0".to_vec()).is_err());
    }
}
