//! The digests that image blobs are named by: parsed, computed, compared.

use std::fmt;
use std::fmt::Write;
use std::io::{self, Read};

use anyhow::{Result, bail};
use sha2::{Digest as _, Sha256, Sha512};

use crate::errno::shown;

/// `ALGORITHM:HEX` of the OCI image specification, "Digests". It proves that
/// the text is safe as a file name: an algorithm of the table and hex digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Digest {
    algorithm: Algorithm,
    hex: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Sha256,
    Sha512,
}

/// The registered algorithms: name and length in hex digits.
const ALGORITHMS: &[(Algorithm, &str, usize)] = &[
    (Algorithm::Sha256, "sha256", 64),
    (Algorithm::Sha512, "sha512", 128),
];

impl Digest {
    /// # Errors
    /// An algorithm that is not registered, or not its count of lower-case digits.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let (name, hex) = text.split_once(':').unwrap_or_default();
        let digits = hex
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let known = ALGORITHMS.iter().find(|(_, known, _)| *known == name);
        match known {
            Some((algorithm, _, length)) if digits && hex.len() == *length => Ok(Self {
                algorithm: *algorithm,
                hex: hex.to_owned(),
            }),
            _ => bail!("{}: not a digest", shown(text)),
        }
    }

    /// Where an OCI image layout keeps the blob.
    pub(crate) fn path(&self) -> String {
        format!("blobs/{}/{}", self.name(), self.hex)
    }

    fn name(&self) -> &'static str {
        let row = ALGORITHMS
            .iter()
            .find(|(known, _, _)| *known == self.algorithm);
        row.map_or("", |(_, name, _)| name)
    }

    /// A reader that passes a stream on and computes what this digest is of.
    pub(crate) fn reader<R: Read>(&self, stream: R) -> Hashed<R> {
        let state = match self.algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
        };
        Hashed {
            stream,
            state,
            expected: self.clone(),
        }
    }

    /// # Errors
    /// The stream's content has another digest.
    pub(crate) fn verify(&self, stream: impl Read) -> Result<()> {
        self.reader(stream).finish()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.name(), self.hex)
    }
}

enum State {
    Sha256(Sha256),
    Sha512(Sha512),
}

/// See `Digest::reader`.
pub(crate) struct Hashed<R> {
    stream: R,
    state: State,
    expected: Digest,
}

impl<R: Read> Hashed<R> {
    /// Reads what is left and compares.
    ///
    /// # Errors
    /// The content is not what the digest names, or cannot be read.
    pub(crate) fn finish(mut self) -> Result<()> {
        io::copy(&mut self, &mut io::sink())?;
        let found = match self.state {
            State::Sha256(state) => hex(&state.finalize()),
            State::Sha512(state) => hex(&state.finalize()),
        };
        if found != self.expected.hex {
            bail!("{}: digest mismatch: the content is {found}", self.expected);
        }
        Ok(())
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(into)?;
        let read = into.get(..count).unwrap_or_default();
        match &mut self.state {
            State::Sha256(state) => state.update(read),
            State::Sha512(state) => state.update(read),
        }
        Ok(count)
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    // FIPS 180-2, appendix B.1 and C.1: the digests of "abc".
    const ABC_256: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const ABC_512: &str = "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                           2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";

    #[test]
    fn both_algorithms_accept_their_content_and_no_other() -> Result<()> {
        for text in [ABC_256, ABC_512] {
            let digest = Digest::parse(text)?;
            assert_eq!(digest.to_string(), text);
            digest.verify(&b"abc"[..])?;
            assert!(digest.verify(&b"abd"[..]).is_err());
        }
        Ok(())
    }

    #[test]
    fn texts_that_could_lead_elsewhere_are_no_digests() {
        let long = "0".repeat(60);
        let tricks = [
            "",
            "sha256",
            "sha256:",
            "sha256:../../etc/passwd",
            "md5:d41d8cd98f00b204e9800998ecf8427e",
            &format!("sha256:{long}/../"),
            &format!("sha256:{long}0ABC"),
            &format!("../sha256:{long}0abc"),
        ];
        for text in tricks {
            assert!(Digest::parse(text).is_err(), "{text}");
        }
    }
}
