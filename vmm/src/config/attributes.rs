//! Typed reading of a node's attributes, complete: what nobody asked for is an error.

use abi::session::args::{NO, YES, parse_number, parse_truth};
use roxmltree::Node;

use super::{ConfigError, line_of};

/// What can be wrong with an attribute.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttributeError {
    /// The node has no such attribute.
    #[error("unknown attribute")]
    Unknown,
    /// The node needs it.
    #[error("missing")]
    Missing,
    /// Neither decimal nor 0x-hexadecimal (with an optional K, M or G).
    #[error("\"{0}\" is not a number")]
    NotANumber(String),
    /// A number, but not one that fits.
    #[error("{value:#x} is outside {min:#x}..={max:#x}")]
    OutOfRange {
        /// The number.
        value: u64,
        /// Least valid one.
        min: u64,
        /// Largest valid one.
        max: u64,
    },
    /// None of the words that the attribute takes.
    #[error("\"{text}\" is none of {}", words.join(", "))]
    NotAChoice {
        /// The word.
        text: String,
        /// The words.
        words: Vec<&'static str>,
    },
    /// A name is needed.
    #[error("empty")]
    Empty,
}

/// The attributes of one node.
pub struct Attributes<'a, 'input> {
    node: Node<'a, 'input>,
    known: Vec<&'static str>,
}

impl<'a, 'input> Attributes<'a, 'input> {
    /// Those of `node`.
    pub fn of(node: Node<'a, 'input>) -> Self {
        Attributes { node, known: Vec::new() }
    }

    fn error(&self, attribute: &str, problem: AttributeError) -> ConfigError {
        ConfigError::Attribute {
            node: self.node.tag_name().name().to_owned(),
            attribute: attribute.to_owned(),
            problem,
            line: line_of(self.node),
        }
    }

    fn get(&mut self, attribute: &'static str) -> Option<&'a str> {
        self.known.push(attribute);
        self.node.attribute(attribute)
    }

    /// Number within `min..=max`, if present.
    ///
    /// # Errors
    /// Not a number, or outside the range.
    pub fn optional_number(&mut self, attribute: &'static str, min: u64, max: u64) -> Result<Option<u64>, ConfigError> {
        let Some(text) = self.get(attribute) else {
            return Ok(None);
        };
        let value =
            parse_number(text).ok_or_else(|| self.error(attribute, AttributeError::NotANumber(text.to_owned())))?;
        if (min..=max).contains(&value) {
            Ok(Some(value))
        } else {
            Err(self.error(attribute, AttributeError::OutOfRange { value, min, max }))
        }
    }

    /// Number within `min..=max`.
    ///
    /// # Errors
    /// Missing, not a number, or outside the range.
    pub fn number(&mut self, attribute: &'static str, min: u64, max: u64) -> Result<u64, ConfigError> {
        self.optional_number(attribute, min, max)?.ok_or_else(|| self.error(attribute, AttributeError::Missing))
    }

    /// First of `count` consecutive I/O ports.
    ///
    /// # Errors
    /// Missing, not a number, or some port beyond 0xffff.
    pub fn port(&mut self, attribute: &'static str, count: u16) -> Result<u16, ConfigError> {
        let max = u16::MAX - count.saturating_sub(1);
        self.number(attribute, 0, max.into()).map(|port| port as u16)
    }

    /// One of several words, if present.
    ///
    /// # Errors
    /// Another word.
    pub fn optional_choice<T: Copy>(
        &mut self,
        attribute: &'static str,
        choices: &[(&'static str, T)],
    ) -> Result<Option<T>, ConfigError> {
        let Some(text) = self.get(attribute) else {
            return Ok(None);
        };
        match choices.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => Ok(Some(*value)),
            None => {
                let words = choices.iter().map(|(word, _)| *word).collect();
                Err(self.error(attribute, AttributeError::NotAChoice { text: text.to_owned(), words }))
            }
        }
    }

    /// Yes or no, if present.
    ///
    /// # Errors
    /// Another word.
    pub fn optional_truth(&mut self, attribute: &'static str) -> Result<Option<bool>, ConfigError> {
        let Some(text) = self.get(attribute) else {
            return Ok(None);
        };
        let not_a_choice = || AttributeError::NotAChoice { text: text.to_owned(), words: [YES, NO].concat() };
        parse_truth(text).map(Some).ok_or_else(|| self.error(attribute, not_a_choice()))
    }

    /// Text that may be empty.
    pub fn optional_text(&mut self, attribute: &'static str) -> Option<String> {
        self.get(attribute).map(str::to_owned)
    }

    /// Name, if present.
    ///
    /// # Errors
    /// Empty.
    pub fn optional_name(&mut self, attribute: &'static str) -> Result<Option<String>, ConfigError> {
        match self.get(attribute) {
            Some("") => Err(self.error(attribute, AttributeError::Empty)),
            name => Ok(name.map(str::to_owned)),
        }
    }

    /// Name.
    ///
    /// # Errors
    /// Missing or empty.
    pub fn name(&mut self, attribute: &'static str) -> Result<String, ConfigError> {
        self.optional_name(attribute)?.ok_or_else(|| self.error(attribute, AttributeError::Missing))
    }

    /// Checks that every attribute of the node was asked for.
    ///
    /// # Errors
    /// An unknown attribute.
    pub fn finish(self) -> Result<(), ConfigError> {
        let unknown = |name: &str| !self.known.contains(&name);
        match self.node.attributes().find(|attribute| unknown(attribute.name())) {
            Some(attribute) => Err(self.error(attribute.name(), AttributeError::Unknown)),
            None => Ok(()),
        }
    }
}
