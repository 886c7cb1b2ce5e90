//! Verbs that act on several containers: by their ids, or by a regular expression.

use capsid_runtime::{Code, ContainerId, Error, Result, Runtime};
use regex_lite::Regex;

/// The ids that exist and that the expression matches anywhere.
pub fn matching(runtime: &Runtime, expression: &str) -> Result<Vec<ContainerId>> {
    let regex = Regex::new(expression).map_err(|error| {
        Error::new(Code::InvalidArgument, error.to_string())
            .doing(format!("read the regular expression {expression:?}"))
    })?;
    let listed = match runtime.list() {
        Err(error) if error.code() == Code::NotFound => Vec::new(),
        listed => listed?,
    };
    let ids: Vec<ContainerId> = listed
        .iter()
        .filter(|listed| regex.is_match(&listed.id))
        .filter_map(|listed| ContainerId::new(&listed.id).ok())
        .collect();
    if ids.is_empty() {
        tracing::warn!("no container's id matches {expression:?}");
    }
    Ok(ids)
}

/// Acts on each of them, whatever becomes of the others. The first failure is the command's;
/// the rest are warnings.
pub fn each<T>(items: Vec<T>, act: impl Fn(T) -> Result<()>) -> Result<()> {
    let mut first = Ok(());
    for item in items {
        match (act(item), &first) {
            (Err(error), Ok(())) => first = Err(error),
            (Err(error), Err(_)) => tracing::warn!("{error}"),
            (Ok(()), _) => {}
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn one_failure_does_not_stop_the_others() {
        let done = RefCell::new(Vec::new());
        let result = each(vec![1, 2, 3, 4], |item| {
            done.borrow_mut().push(item);
            match item {
                2 | 3 => Err(Error::new(Code::NotFound, format!("failed {item}"))),
                _ => Ok(()),
            }
        });
        assert_eq!(done.into_inner(), [1, 2, 3, 4]);
        assert_eq!(result.unwrap_err().tail(), "failed 2");
    }

    #[test]
    fn a_bad_expression_says_so() {
        let runtime = Runtime::new("/nonexistent/capsid");
        let error = matching(&runtime, "a(").err().unwrap().to_string();
        assert!(
            error.starts_with("read the regular expression \"a(\": "),
            "{error}"
        );
    }

    #[test]
    fn no_state_directory_has_no_match() {
        let runtime = Runtime::new("/nonexistent/capsid");
        assert_eq!(matching(&runtime, ".").map(|ids| ids.len()), Ok(0));
    }
}
