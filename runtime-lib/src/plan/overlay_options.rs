//! The directories of an overlay that a configuration mounts.

use super::draft::c_string;
use crate::error::Result;
use crate::step::FsOption;

/// fsconfig(2) takes so many bytes of a value; mount(2) took a page of them.
const VALUE: usize = 255;

/// Takes apart the values that are longer, which the child then names by descriptors.
pub(super) fn name_directories(options: &mut [FsOption], pointer: &str) -> Result<()> {
    for option in options {
        let value = option.value.as_ref().map(|value| value.to_bytes());
        let Some(value) = value.filter(|value| value.len() > VALUE) else {
            continue;
        };
        let paths = match option.key.to_bytes() {
            b"lowerdir" => layers(value),
            b"upperdir" | b"workdir" => Some(vec![unescaped(value)]),
            _ => None,
        };
        let paths = paths.into_iter().flatten();
        option.directories = paths
            .map(|path| c_string(path, pointer))
            .collect::<Result<_>>()?;
    }
    Ok(())
}

/// None: an empty one is there, before what has data only, which can't be named so.
fn layers(value: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut escaped = false;
    let layers = value.split(|&byte| {
        let colon = byte == b':' && !escaped;
        escaped = byte == b'\\' && !escaped;
        colon
    });
    let layers: Vec<Vec<u8>> = layers.map(unescaped).collect();
    layers
        .iter()
        .all(|layer| !layer.is_empty())
        .then_some(layers)
}

/// A backslash takes its meaning from the byte after it.
fn unescaped(value: &[u8]) -> Vec<u8> {
    let mut escaped = false;
    let keep = |byte: &&u8| {
        escaped = **byte == b'\\' && !escaped;
        !escaped
    };
    value.iter().filter(keep).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_end_at_colons_that_are_not_escaped() {
        let of = |text: &str| layers(text.as_bytes());
        let expected = [&b"/a:b"[..], b"/c\\", b"/d,e"].map(<[u8]>::to_vec);
        assert_eq!(of(r"/a\:b:/c\\:/d\,e"), Some(expected.to_vec()));
        assert_eq!(of("/a::/data"), None);
    }
}
