//! The trace that the caller's call belongs to (W3C Trace Context, "traceparent"): what it is known by stands
//! in every record, under the names that OpenTelemetry has for logs, so that an engine's records and
//! capsid's are found together.

use std::env;

/// A trace, and the caller's span in it.
pub struct Trace {
    id: String,
    span: String,
    flags: String,
}

impl Trace {
    pub const KEYS: [&'static str; 3] = ["trace_id", "span_id", "trace_flags"];

    /// The one that the environment names.
    pub fn of_the_caller() -> Option<Trace> {
        Trace::parse(env::var_os("TRACEPARENT")?.to_str()?)
    }

    /// VERSION-TRACE-SPAN-FLAGS, in lower-case hexadecimal. The specification has one that is malformed
    /// ignored, and what a later version appends.
    fn parse(text: &str) -> Option<Trace> {
        let mut parts = text.split('-');
        let mut next = |digits: usize| {
            let part = parts.next()?;
            let hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
            (part.len() == digits && part.bytes().all(hex)).then(|| part.to_owned())
        };
        let version = next(2)?;
        let trace = Trace {
            id: next(32)?,
            span: next(16)?,
            flags: next(2)?,
        };
        let zero = |text: &str| text.bytes().all(|c| c == b'0');
        let more = parts.next().is_some() && version == "00";
        let wrong = version == "ff" || more || zero(&trace.id) || zero(&trace.span);
        (!wrong).then_some(trace)
    }

    pub fn keys(&self) -> [(&'static str, String); 3] {
        let [id, span, flags] = Trace::KEYS;
        [
            (id, self.id.clone()),
            (span, self.span.clone()),
            (flags, self.flags.clone()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_traceparent_is_none() {
        let id = "0af7651916cd43dd8448eb211c80319c";
        let span = "b7ad6b7169203331";
        let good = format!("00-{id}-{span}-01");
        assert_eq!(Trace::parse(&good).unwrap().keys()[0].1, id);
        assert!(Trace::parse(&format!("01-{id}-{span}-01-later")).is_some());
        let zeros = "0".repeat(32);
        for wrong in [
            String::new(),
            format!("{good}-more"),
            format!("ff-{id}-{span}-01"),
            format!("00-{zeros}-{span}-01"),
            format!("00-{id}-{}-01", &zeros[..16]),
            good.to_uppercase(),
            format!("00-{id}-{span}"),
            format!("00-{id}-{span}-1"),
            format!("00-{id}-{span}-0g"),
        ] {
            assert!(Trace::parse(&wrong).is_none(), "{wrong}");
        }
    }
}
