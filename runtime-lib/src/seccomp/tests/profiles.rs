//! Profiles that nobody would think of.

use std::collections::HashSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

type Action = (&'static str, Option<u32>);

fn actions() -> impl Strategy<Value = Action> {
    let words = [
        "SCMP_ACT_ALLOW",
        "SCMP_ACT_ERRNO",
        "SCMP_ACT_KILL",
        "SCMP_ACT_KILL_PROCESS",
        "SCMP_ACT_KILL_THREAD",
        "SCMP_ACT_TRAP",
        "SCMP_ACT_LOG",
        "SCMP_ACT_NOTIFY",
    ];
    let numbered = select(vec!["SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"]);
    prop_oneof![
        select(words.to_vec()).prop_map(|word| (word, None)),
        (numbered, 0..4095_u32).prop_map(|(word, number)| (word, Some(number))),
    ]
}

fn values() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..8_u64,
        any::<u32>().prop_map(u64::from),
        any::<u64>(),
        (0..64_u32).prop_map(|bit| 1 << bit),
        Just(u64::MAX),
        Just(u32::MAX.into()),
    ]
}

fn argument() -> impl Strategy<Value = Value> {
    let operators = select(vec!["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"]);
    (0..6_usize, operators, values(), values()).prop_map(|(index, operator, value, mask)| {
        // A value outside of the mask can never be.
        let (first, second) = match operator {
            "MASKED_EQ" => (mask, value & mask),
            _ => (value, 0),
        };
        let operator = format!("SCMP_CMP_{operator}");
        json!({"index": index, "op": operator, "value": first, "valueTwo": second})
    })
}

fn rule(names: Value, (action, number): Action, args: Vec<Value>) -> Value {
    let mut rule = json!({"names": names, "action": action, "args": args});
    if let Some(number) = number {
        rule["errnoRet"] = number.into();
    }
    rule
}

fn assemble(default: Action, rules: Vec<Value>) -> Value {
    let mut profile = json!({"defaultAction": default.0, "syscalls": rules});
    if let Some(number) = default.1 {
        profile["defaultErrnoRet"] = number.into();
    }
    profile
}

fn default_action() -> impl Strategy<Value = Action> {
    let wrong = |(word, _): &Action| *word != "SCMP_ACT_NOTIFY";
    actions().prop_filter("NOTIFY is no default", wrong)
}

/// Profiles in which no call is asked about twice: where several conditions meet, the layout of
/// libseccomp's tree decides, and for some operators it decides wrongly.
pub fn plain(names: Vec<&'static str>) -> impl Strategy<Value = Value> {
    let some = vec(select(names), 1..12);
    let unconditional = vec((some.clone(), actions()), 0..12);
    let asking = vec((some, actions(), vec(argument(), 1..4)), 0..6);
    (default_action(), unconditional, asking).prop_map(|(default, unconditional, asking)| {
        let unconditional = unconditional.into_iter();
        let mut rules: Vec<_> = unconditional
            .map(|(names, action)| rule(json!(names), action, vec![]))
            .collect();
        let mut seen = HashSet::new();
        for (n, (names, action, args)) in asking.into_iter().enumerate() {
            let names: Vec<_> = names
                .into_iter()
                .filter(|name| seen.insert(*name))
                .collect();
            let mut indices = HashSet::new();
            let mut once = args;
            once.retain(|arg| indices.insert(arg["index"].as_u64()));
            if !names.is_empty() {
                let at = n * 7 % (rules.len() + 1);
                rules.insert(at, rule(json!(names), action, once));
            }
        }
        assemble(default, rules)
    })
}

/// Any profile at all.
pub fn any_profile(names: Vec<&'static str>) -> impl Strategy<Value = Value> {
    let rules = vec(
        (vec(select(names), 1..6), actions(), vec(argument(), 0..4)),
        0..12,
    );
    (default_action(), rules).prop_map(|(default, rules)| {
        let rules = rules.into_iter();
        let rules = rules.map(|(names, action, args)| rule(json!(names), action, args));
        assemble(default, rules.collect())
    })
}
