//! Promise S16: an id is a name and never a path: what is not one is refused before anything is touched.

use crate::harness::Outcome;
use crate::stage;

#[test]
fn s16_an_id_that_is_no_name_is_refused_by_every_verb() {
    let stage = stage!();
    let bundle = stage.bundle();
    bundle.write("ids");
    let folder = bundle.folder.to_string_lossy().into_owned();
    let long = "x".repeat(300);
    let root = stage.path("untouched");
    for id in [
        "../x",
        "a/b",
        "/abs",
        ".",
        "..",
        "",
        long.as_str(),
        "a\nb",
        "%s%n",
        "a b",
        "caf\u{e9}",
        "a\u{7f}",
        "*",
    ] {
        for verb in [
            vec!["create", "--bundle", &folder, "--", id],
            vec!["run", "--bundle", &folder, "--", id],
            vec!["start", "--", id],
            vec!["state", "--", id],
            vec!["kill", "--", id],
            vec!["delete", "--", id],
            vec!["delete", "--force", "--", id],
            vec!["exec", "--", id, "true"],
            vec!["ps", "--", id],
            vec!["pause", "--", id],
            vec!["resume", "--", id],
        ] {
            let outcome = Outcome::of(stage.bare().arg("--root").arg(&root).args(&verb));
            assert_ne!(outcome.code, 0, "{outcome}");
            assert!(
                outcome.stderr.contains("invalid container ID format"),
                "{outcome}"
            );
            assert!(
                !outcome.stderr.contains("a\nb") && !outcome.stderr.contains("caf\u{e9}"),
                "echoed raw: {outcome}"
            );
            assert!(!root.exists(), "{outcome}");
        }
    }
}

#[test]
fn every_character_of_a_name_is_taken() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.args(&["/bin/true"]);
    let long = "l".repeat(255);
    for id in [
        "a",
        "0",
        "A-Z_a.z+9",
        "_x",
        long.as_str(),
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    ] {
        stage.adopt(id);
        bundle.write(id);
        stage
            .call(&["run", "--bundle", &bundle.folder.to_string_lossy(), id])
            .ok();
    }
}
