//! Container ids: they become names of directories, cgroups and keyrings.

use capsid_fuzz::{fuzz, is_one_line};
use capsid_runtime::ContainerId;
use proptest::prelude::*;

fn ids() -> impl Strategy<Value = String> {
    prop_oneof![
        "[A-Za-z0-9_+.-]{0,12}",
        "[A-Za-z0-9_+.-]{250,260}",
        "[a-z/%. \\n\\x00é]{0,8}",
        any::<String>(),
    ]
}

#[test]
fn an_id_is_a_plain_name_or_refused_unechoed() {
    fuzz("ids", ids(), |id| {
        let bytes = id.as_bytes();
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(byte);
        let good = (1..=255).contains(&bytes.len()) && bytes[0] != b'.' && bytes.iter().all(plain);
        match ContainerId::new(&id) {
            Ok(checked) => {
                prop_assert!(good);
                prop_assert_eq!(checked.as_str(), &id);
            }
            Err(error) => {
                prop_assert!(!good);
                is_one_line(&error)?;
                prop_assert!(id.len() < 10 || !error.to_string().contains(&id));
            }
        }
        Ok(())
    });
}
