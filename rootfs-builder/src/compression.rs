//! Reads a stream that may be compressed, whatever its name or media type says:
//! the first bytes decide. gzip (of several members too), zstd (of several
//! frames too), or plain.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// The longest of the marks below.
const MARK: usize = 6;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// A zstd frame to skip begins 0x50 to 0x5f, then these.
const ZSTD_SKIPPED: &[u8] = &[0x2a, 0x4d, 0x18];

/// Formats that are known and not read.
const REFUSED: &[(&[u8], &str)] = &[
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], "xz"),
    (b"BZh", "bzip2"),
];

/// What the first bytes of a stream say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    fn of(mark: &[u8]) -> io::Result<Self> {
        for (format, name) in REFUSED {
            if mark.starts_with(format) {
                let text = format!("compressed with {name}; only gzip and zstd are read");
                return Err(io::Error::other(text));
            }
        }
        let skipped = mark.first().is_some_and(|byte| byte & 0xf0 == 0x50)
            && mark
                .get(1..)
                .is_some_and(|rest| rest.starts_with(ZSTD_SKIPPED));
        Ok(if mark.starts_with(GZIP) {
            Self::Gzip
        } else if mark.starts_with(ZSTD) || skipped {
            Self::Zstd
        } else {
            Self::None
        })
    }
}

/// The plain stream, and how it was compressed.
///
/// # Errors
/// The stream cannot be read, or is in a compression that is not read.
pub(crate) fn plain<'a>(
    mut stream: impl Read + 'a,
) -> io::Result<(Compression, Box<dyn Read + 'a>)> {
    let mut mark = Vec::with_capacity(MARK);
    stream.by_ref().take(MARK as u64).read_to_end(&mut mark)?;
    let compression = Compression::of(&mark)?;
    let whole = BufReader::with_capacity(64 * 1024, io::Cursor::new(mark).chain(stream));
    let reader: Box<dyn Read + 'a> = match compression {
        Compression::None => Box::new(whole),
        Compression::Gzip => Box::new(MultiGzDecoder::new(whole)),
        Compression::Zstd => Box::new(Frames::new(whole)),
    };
    Ok((compression, reader))
}

/// The content of all zstd frames of a stream, one after the other
/// (RFC 8878, 3.1: a stream is any number of frames, and frames to skip).
struct Frames<R> {
    source: R,
    decoder: FrameDecoder,
    /// Whether the decoder is in a frame.
    within: bool,
}

impl<R: BufRead> Frames<R> {
    fn new(source: R) -> Self {
        Self {
            source,
            decoder: FrameDecoder::new(),
            within: false,
        }
    }

    /// Enters the next frame; `false` at the end of the stream.
    fn enter(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let mut skipped = self.source.by_ref().take(length.into());
                    io::copy(&mut skipped, &mut io::sink())?;
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }

    /// The checksum that a frame may end in is of its content.
    fn leave(&mut self) -> io::Result<()> {
        self.within = false;
        let stated = self.decoder.get_checksum_from_data();
        if stated.is_some() && stated != self.decoder.get_calculated_checksum() {
            return Err(io::Error::other(
                "zstd: the content does not match its checksum",
            ));
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.decoder.can_collect() > 0 {
                return self.decoder.read(into);
            }
            if !self.within {
                self.within = self.enter()?;
                if !self.within {
                    return Ok(0);
                }
            }
            if self.decoder.is_finished() {
                self.leave()?;
            } else {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                let decoded = self.decoder.decode_blocks(&mut self.source, one);
                decoded.map_err(io::Error::other)?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::write::GzEncoder;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    use std::io::Write;

    fn read(stream: &[u8]) -> io::Result<(Compression, Vec<u8>)> {
        let (compression, mut reader) = plain(stream)?;
        let mut text = Vec::new();
        reader.read_to_end(&mut text)?;
        Ok((compression, text))
    }

    fn gzip(text: &[u8]) -> io::Result<Vec<u8>> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text)?;
        encoder.finish()
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        compress_to_vec(text, CompressionLevel::Fastest)
    }

    #[test]
    fn a_plain_stream_stays_as_it_is() -> io::Result<()> {
        for text in [&b""[..], b"x", b"hello, world"] {
            assert_eq!(read(text)?, (Compression::None, text.to_vec()));
        }
        Ok(())
    }

    #[test]
    fn every_member_of_gzip_is_read() -> io::Result<()> {
        let stream = [gzip(b"one ")?, gzip(b"two")?].concat();
        assert_eq!(read(&stream)?, (Compression::Gzip, b"one two".to_vec()));
        Ok(())
    }

    #[test]
    fn every_frame_of_zstd_is_read_and_frames_to_skip_are_skipped() -> io::Result<()> {
        let skipped = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"xyz"].concat();
        let stream = [skipped.clone(), zstd(b"one "), skipped, zstd(b"two")].concat();
        assert_eq!(read(&stream)?, (Compression::Zstd, b"one two".to_vec()));
        Ok(())
    }

    #[test]
    fn a_cut_stream_is_an_error() -> io::Result<()> {
        let text = vec![7_u8; 100_000];
        for whole in [gzip(&text)?, zstd(&text)] {
            let cut: Vec<u8> = whole.iter().copied().take(whole.len() - 3).collect();
            assert!(read(&cut).is_err());
        }
        Ok(())
    }

    #[test]
    fn formats_that_are_not_read_are_named() {
        let error =
            read(b"\xfd7zXZ\0....").map_or_else(|error| error.to_string(), |_| String::new());
        assert!(error.contains("xz"), "{error}");
    }
}
