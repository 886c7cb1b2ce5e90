//! What the promises are tested with: a stage (a state root and a scratch folder of one test), bundles,
//! containers, and what a finished command said. It drives the binary from outside and must never call
//! the library: a promise is what a user sees.

pub mod bundle;
pub mod container;
#[cfg(target_arch = "x86_64")]
pub mod injector;
pub mod machine;
pub mod old_kernel;
pub mod outcome;
pub mod silent;
pub mod stage;
pub mod terminal;
pub mod tracer;
pub mod user;
pub mod view;

pub use bundle::Bundle;
pub use container::Container;
pub use outcome::{Outcome, around, end, until};
pub use stage::Stage;
pub use view::View;

/// The name of the test that this stands in.
#[macro_export]
macro_rules! here {
    () => {{
        fn here() {}
        let name = std::any::type_name_of_val(&here);
        name.trim_end_matches("::here")
            .split_once("::")
            .map_or(name, |(_, rest)| rest)
    }};
}

/// Ends the test without a verdict, loudly: the name and the reason are counted by `make test`, which
/// with CI=true accepts only those of tests/known-limits.txt.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)*) => {{
        $crate::harness::machine::record_skip($crate::here!(), &format!($($reason)*));
        return;
    }};
}

/// A stage for this test, or a skip where containers can't be made here.
#[macro_export]
macro_rules! stage {
    () => {
        $crate::stage!($crate::harness::View::Host)
    };
    ($view:expr) => {
        match $crate::harness::Stage::new($crate::here!(), $view) {
            Ok(stage) => stage,
            Err(reason) => $crate::skip!("{reason}"),
        }
    };
}

/// A stage on which the runtime is called by the ordinary user, or a skip where there is none.
#[macro_export]
macro_rules! user_stage {
    () => {{
        if let Some(reason) = $crate::harness::user::obstacle() {
            $crate::skip!("{reason}");
        }
        $crate::stage!($crate::harness::View::Host).of_user()
    }};
}
