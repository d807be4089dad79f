//! Session labels: the path of components that a request came through, joined by `" -> "`.

use abi::session::args::LABEL_SEPARATOR as SEPARATOR;
pub use abi::session::args::last_element;
use alloc::string::String;

/// The label of a request of `child`, as its parent sees it.
#[must_use]
pub fn prefixed(child: &str, label: &str) -> String {
    [child, label].join(SEPARATOR)
}

/// All elements but the last; empty if there is only one.
#[must_use]
pub fn prefix(label: &str) -> &str {
    label.rsplit_once(SEPARATOR).map_or("", |(prefix, _)| prefix)
}

/// What the child itself gave as label; `None` if the request was made on its behalf.
#[must_use]
pub fn scoped<'a>(child: &str, label: &'a str) -> Option<&'a str> {
    label.strip_prefix(child)?.strip_prefix(SEPARATOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements() {
        assert_eq!(prefixed("sub", "app -> x"), "sub -> app -> x");
        assert_eq!(prefixed("app", ""), "app -> ");
        assert_eq!(last_element("sub -> app -> x"), "x");
        assert_eq!(last_element("app -> "), "");
        assert_eq!(last_element("x"), "x");
        assert_eq!(prefix("sub -> app -> x"), "sub -> app");
        assert_eq!(prefix("x"), "");
        assert_eq!(scoped("app", "app -> x"), Some("x"));
        assert_eq!(scoped("app", "app2 -> x"), None);
        assert_eq!(scoped("app", "app"), None);
    }
}
