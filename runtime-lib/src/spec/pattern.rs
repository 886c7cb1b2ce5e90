//! JSON pointers (RFC 6901), and patterns of them in which `*` stands for every element of an
//! array and every member of an object. It must not know any setting by name.

use serde_json::Value;

/// The longest text that is quoted from a configuration, in bytes.
const MAX_QUOTE: usize = 200;

/// Every value that the pattern names and that is `wanted`, with its pointer. What isn't there
/// isn't named. A pointer is only written down for what is found: most of the time, nothing.
pub(crate) fn matches<'v>(
    value: &'v Value,
    pattern: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Vec<(String, &'v Value)> {
    let mut found = Vec::new();
    collect(value, pattern, None, &wanted, &mut found);
    found
}

/// As [`matches`], the pointers alone: the document can be changed at them.
pub(super) fn pointers(
    value: &Value,
    pattern: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Vec<String> {
    let found = matches(value, pattern, wanted).into_iter();
    found.map(|(pointer, _)| pointer).collect()
}

/// Where a value lies: its name in what holds it, and where that lies.
struct Place<'p> {
    outer: Option<&'p Place<'p>>,
    name: Name<'p>,
}

enum Name<'p> {
    Member(&'p str),
    Element(usize),
}

impl Place<'_> {
    fn pointer(&self) -> String {
        let outer = self.outer.map(Place::pointer).unwrap_or_default();
        match self.name {
            Name::Member(name) => format!("{outer}/{}", escape(name)),
            Name::Element(index) => format!("{outer}/{index}"),
        }
    }
}

fn collect<'v>(
    value: &'v Value,
    pattern: &str,
    outer: Option<&Place>,
    wanted: &impl Fn(&Value) -> bool,
    found: &mut Vec<(String, &'v Value)>,
) {
    let Some(rest) = pattern.strip_prefix('/') else {
        if wanted(value) {
            found.push((outer.map(Place::pointer).unwrap_or_default(), value));
        }
        return;
    };
    let (part, rest) = match rest.find('/') {
        Some(end) => rest.split_at(end),
        None => (rest, ""),
    };
    let mut inner = |name, value| collect(value, rest, Some(&Place { outer, name }), wanted, found);
    match value {
        Value::Array(elements) if part == "*" => {
            for (index, element) in elements.iter().enumerate() {
                inner(Name::Element(index), element);
            }
        }
        Value::Object(members) if part == "*" => {
            for (name, member) in members {
                inner(Name::Member(name), member);
            }
        }
        Value::Object(members) => {
            if let Some((name, member)) = members.get_key_value(part) {
                inner(Name::Member(name), member);
            }
        }
        _ => {}
    }
}

/// The value at a pointer of members whose names need no escaping. `Value::pointer` copies each
/// name twice to unescape it: several times the cost of looking it up.
pub(crate) fn at<'v>(value: &'v Value, pointer: &str) -> Option<&'v Value> {
    let mut names = pointer.split('/').skip(1);
    names.try_fold(value, |value, name| value.get(name))
}

/// Takes the value at `pointer` out of the object that holds it.
pub(super) fn remove(value: &mut Value, pointer: &str) -> Option<Value> {
    let (parent, name) = pointer.rsplit_once('/')?;
    value.pointer_mut(parent)?.as_object_mut()?.remove(name)
}

/// The pointer of the member `key` below `pointer`.
pub(crate) fn join(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", shorten(&escape(key)))
}

fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// At most [`MAX_QUOTE`] bytes of a text: an error is one line that somebody reads.
pub(crate) fn shorten(text: &str) -> String {
    if text.len() <= MAX_QUOTE {
        return text.to_owned();
    }
    let end = (0..=MAX_QUOTE)
        .rev()
        .find(|end| text.is_char_boundary(*end));
    format!("{}…", &text[..end.unwrap_or(0)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_star_names_every_element() {
        let value = json!({"a": [{"b": 1}, {"c": 2}, {"b": 3}]});
        let found = matches(&value, "/a/*/b", |_| true);
        assert_eq!(
            found,
            [("/a/0/b".into(), &json!(1)), ("/a/2/b".into(), &json!(3))]
        );
        assert!(matches(&value, "/x/*/b", |_| true).is_empty());
        assert_eq!(matches(&value, "", |_| true)[0].0, "");
        let odd = matches(&value, "/a/*/b", |value| *value == 3);
        assert_eq!(odd, [("/a/2/b".into(), &json!(3))]);
    }

    #[test]
    fn a_plain_pointer_leads_through_members_alone() {
        let value = json!({"a": {"b": [1]}});
        for pointer in ["", "/a", "/a/b", "/a/c", "/a/b/c", "/x/b"] {
            assert_eq!(at(&value, pointer), value.pointer(pointer), "{pointer}");
        }
        assert_eq!(at(&value, "/a/b/0"), None);
    }

    #[test]
    fn slashes_and_tildes_in_a_key_are_escaped() {
        assert_eq!(join("/linux/sysctl", "net/a~b"), "/linux/sysctl/net~1a~0b");
    }

    #[test]
    fn a_long_quote_is_cut_between_characters() {
        let text = shorten(&"ä".repeat(200));
        assert_eq!(text.len(), 200 + "…".len());
    }
}
