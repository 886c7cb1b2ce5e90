//! The good configurations, mutilated at random: whatever comes in, the reader and the rules end
//! at once and without a panic, and what they accept they have understood.

use std::time::{Duration, Instant};

use capsid_runtime::plan::validate::validate;
use capsid_runtime::spec::{Spec, process};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

use crate::{good, lost};

/// Ten times what a configuration may take: a guard against hangs, not a figure.
const DEADLINE: Duration = Duration::from_millis(500);

/// What is done to one place of a document.
#[derive(Clone, Debug)]
enum Mutation {
    Drop,
    Replace(Value),
    /// The value of another place, but no object: its members would be unknown ones here.
    Borrow(Index),
    /// Once more at the end of a list.
    Repeat,
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        prop::sample::select(vec![0, -1, 4294967295i64, 4294967296, i64::MAX, i64::MIN])
            .prop_map(Value::from),
        "[a-z/.:=+\\x00\\n ä-]{0,12}".prop_map(Value::from),
        (0usize..200_000).prop_map(|length| Value::from("x".repeat(length))),
        Just(json!([])),
        Just(json!({})),
        (1usize..200).prop_map(|depth| (0..depth).fold(Value::Null, |inner, _| json!([inner]))),
    ]
}

fn mutation() -> impl Strategy<Value = (Index, Mutation)> {
    let mutation = prop_oneof![
        Just(Mutation::Drop),
        value().prop_map(Mutation::Replace),
        any::<Index>().prop_map(Mutation::Borrow),
        Just(Mutation::Repeat),
    ];
    (any::<Index>(), mutation)
}

fn has_members(value: &Value) -> bool {
    match value {
        Value::Array(elements) => elements.iter().any(has_members),
        other => other.is_object(),
    }
}

/// Every pointer of a document but the one of the whole.
fn places(value: &Value, pointer: &str, found: &mut Vec<String>) {
    let mut inner = |name: &str, value: &Value| {
        let pointer = format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
        found.push(pointer.clone());
        places(value, &pointer, found);
    };
    match value {
        Value::Array(elements) => {
            let numbered = elements.iter().enumerate();
            numbered.for_each(|(n, element)| inner(&n.to_string(), element));
        }
        Value::Object(members) => members.iter().for_each(|(name, value)| inner(name, value)),
        _ => {}
    }
}

fn mutate(document: &mut Value, place: Index, mutation: Mutation) {
    let mut all = Vec::new();
    places(document, "", &mut all);
    if all.is_empty() {
        return;
    }
    let pointer = place.get(&all);
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let borrowed = match &mutation {
        Mutation::Borrow(other) => document.pointer(other.get::<String>(&all)).cloned(),
        _ => document.pointer(pointer).cloned(),
    };
    if matches!(mutation, Mutation::Borrow(_)) && borrowed.as_ref().is_some_and(has_members) {
        return;
    }
    match (mutation, document.pointer_mut(parent).unwrap()) {
        (Mutation::Drop, Value::Object(members)) => {
            members.remove(&name.replace("~1", "/").replace("~0", "~"));
        }
        (Mutation::Drop, Value::Array(elements)) => {
            elements.remove(name.parse().unwrap());
        }
        (Mutation::Repeat, Value::Array(elements)) => elements.extend(borrowed),
        (Mutation::Repeat, _) => {}
        (Mutation::Replace(value), _) => *document.pointer_mut(pointer).unwrap() = value,
        (Mutation::Borrow(_), _) => *document.pointer_mut(pointer).unwrap() = borrowed.unwrap(),
        (Mutation::Drop, _) => unreachable!("a parent has members or elements"),
    }
}

/// Everything that is promised about any text at all. The specification, when it was accepted
/// without a word.
fn judge(text: &str) -> Result<Option<Spec>, TestCaseError> {
    let started = Instant::now();
    let (errors, spec) = match Spec::parse(text) {
        Ok(spec) => (validate(&spec), Some(spec)),
        Err(error) => (vec![error], None),
    };
    prop_assert!(started.elapsed() < DEADLINE, "{:?}", started.elapsed());
    for error in &errors {
        let line = error.to_string();
        prop_assert!(!line.chars().any(char::is_control), "{line:?}");
        prop_assert!(line.len() < 2000, "{} bytes", line.len());
        prop_assert!(
            error
                .pointer()
                .is_none_or(|pointer| pointer.is_empty() || pointer.starts_with('/'))
        );
    }
    Ok(spec.filter(|spec| errors.is_empty() && spec.notices.is_empty()))
}

fn texts() -> Vec<String> {
    let read = |path| std::fs::read_to_string(path).unwrap();
    good::fixtures().iter().map(read).collect()
}

/// PROPTEST_CASES overrides the number of cases.
fn settings() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn a_mutilated_document_is_refused_or_understood(
        fixture in any::<Index>(),
        mutations in prop::collection::vec(mutation(), 1..6),
    ) {
        let texts = texts();
        let mut document: Value = serde_json::from_str(fixture.get::<String>(&texts)).unwrap();
        for (place, mutation) in mutations {
            mutate(&mut document, place, mutation);
        }
        if let Some(spec) = judge(&document.to_string())? {
            let lost = lost::between(&spec);
            prop_assert!(lost.is_empty(), "{lost:?}");
        }
        // The same process, as exec gets it.
        let asked = document.get("process").map(|asked| process::parse(&asked.to_string()));
        if let Some(Ok((asked, _))) = asked {
            capsid_runtime::plan::validate::process(&asked, "");
        }
    }

    #[test]
    fn a_mutilated_text_is_refused_or_understood(
        fixture in any::<Index>(),
        cut in any::<Index>(),
        instead in "[\\x00-\\x7fä]{0,3}",
        taken in 0usize..4,
    ) {
        let texts = texts();
        let text: Vec<char> = fixture.get(&texts).chars().collect();
        let at = cut.index(text.len());
        let rest = text.iter().skip(at + taken);
        let text: String = text[..at].iter().copied().chain(instead.chars()).chain(rest.copied()).collect();
        judge(&text)?;
    }

    #[test]
    fn any_text_is_refused_or_understood(text in any::<String>()) {
        judge(&text)?;
    }
}
