//! Placeholders in a configuration: `${name}`, and `${name+SIZE}` for a size with something on top.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::scenario::size::Size;

/// Replaces every placeholder by its value, escaped for XML.
pub fn substitute(text: &str, options: &BTreeMap<String, String>) -> Result<String> {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (placeholder, after) =
            after.split_once('}').ok_or_else(|| Error::new("a placeholder `${` has no closing `}`"))?;
        result.push_str(before);
        result.push_str(&escape(&value(placeholder, options)?));
        rest = after;
    }
    result.push_str(rest);
    Ok(result)
}

fn value(placeholder: &str, options: &BTreeMap<String, String>) -> Result<String> {
    let (name, addend) = match placeholder.split_once('+') {
        Some((name, addend)) => (name.trim(), Some(addend.trim())),
        None => (placeholder.trim(), None),
    };
    let value = options.get(name).ok_or_else(|| {
        let known: Vec<_> = options.keys().map(String::as_str).collect();
        Error::new(format!("nothing gives `${{{name}}}` a value")).remedy(format!("there are: {}", known.join(", ")))
    })?;
    let Some(addend) = addend else {
        return Ok(value.clone());
    };
    let size = |text: &str| text.parse::<Size>().map_err(Error::new);
    let sum = size(value)?.checked_add(size(addend)?);
    sum.map(|sum| sum.to_string()).ok_or_else(|| Error::new(format!("`${{{placeholder}}}` is too large")))
}

/// The characters that XML 1.0 section 2.4 reserves in attribute values and text.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&apos;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> BTreeMap<String, String> {
        [("memory", "256M"), ("append", "a=\"b\" <c> & ${memory}")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn values_are_put_in() {
        assert_eq!(substitute("<mem end=\"${memory}\"/>$ {}", &options()).unwrap(), "<mem end=\"256M\"/>$ {}");
        assert_eq!(substitute("${memory+64M}", &options()).unwrap(), "320M");
    }

    #[test]
    fn values_cannot_add_markup_or_placeholders() {
        assert_eq!(
            substitute("<x a=\"${append}\"/>", &options()).unwrap(),
            "<x a=\"a=&quot;b&quot; &lt;c&gt; &amp; ${memory}\"/>"
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("${memry}", "memry"),
            ("${memory", "closing"),
            ("${append+1M}", "memory size"),
            ("${memory+99999999999G}", "99999999999G"),
        ] {
            let error = substitute(text, &options()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
