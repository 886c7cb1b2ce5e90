//! What was measured, as rows of paired samples, and the statistics over them.
//! It must not print.

use crate::args::Pace;
use crate::figure::{Bound, Figure, aims};
use crate::view::View;

/// The contender that the aims are about.
pub const SUBJECT: &str = "capsid";
/// The contender that ratios are taken against.
pub const REFERENCE: &str = "crun";

/// One figure under one condition, for every contender.
#[derive(Debug)]
pub struct Row {
    pub figure: Figure,
    pub view: Option<View>,
    pub pace: Option<Pace>,
    pub tracks: Vec<Track>,
}

/// One contender's samples; the same index is the same round in each track.
#[derive(Debug)]
pub struct Track {
    pub contender: String,
    pub samples: Vec<f64>,
    /// Why the samples end early.
    pub failure: Option<String>,
}

/// How capsid stands against one aim.
#[derive(Debug)]
pub struct Verdict {
    pub bound: Bound,
    /// `None`: capsid or what it is compared with has no samples.
    pub reached: Option<f64>,
}

impl Verdict {
    pub fn met(&self) -> Option<bool> {
        let (Bound::Ratio(_, limit) | Bound::AtMost(limit)) = self.bound;
        self.reached.map(|reached| reached <= limit)
    }
}

impl Track {
    pub fn median(&self) -> Option<f64> {
        median(&self.samples)
    }

    pub fn minimum(&self) -> Option<f64> {
        self.samples.iter().copied().reduce(f64::min)
    }
}

impl Row {
    pub fn track(&self, contender: &str) -> Option<&Track> {
        self.tracks
            .iter()
            .find(|track| track.contender == contender)
    }

    /// The median over the rounds of `contender`'s sample divided by `base`'s.
    pub fn ratio(&self, contender: &str, base: &str) -> Option<f64> {
        let (ours, theirs) = (self.track(contender)?, self.track(base)?);
        let ratios: Vec<f64> = ours
            .samples
            .iter()
            .zip(&theirs.samples)
            .map(|(a, b)| a / b)
            .collect();
        median(&ratios)
    }

    pub fn verdicts(&self) -> Vec<Verdict> {
        aims(self.figure, self.pace)
            .map(|bound| Verdict {
                bound,
                reached: match bound {
                    Bound::Ratio(base, _) => self.ratio(SUBJECT, base),
                    Bound::AtMost(_) => self.track(SUBJECT).and_then(Track::median),
                },
            })
            .collect()
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get(sorted.len().saturating_sub(1) / 2)?;
    Some((lower + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ours: &[f64], theirs: &[f64]) -> Row {
        let track = |contender: &str, samples: &[f64]| Track {
            contender: contender.to_owned(),
            samples: samples.to_vec(),
            failure: None,
        };
        Row {
            figure: Figure::Run,
            view: Some(View::V1),
            pace: Some(Pace::Hot),
            tracks: vec![track(SUBJECT, ours), track(REFERENCE, theirs)],
        }
    }

    #[test]
    fn the_median_of_an_even_count_lies_between_the_middle_two() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn a_ratio_is_paired_round_by_round() {
        // The machine was ten times slower in the second round; the ratio does not see it.
        assert_eq!(
            row(&[1.0, 10.0, 1.0], &[2.0, 20.0, 2.0]).ratio(SUBJECT, REFERENCE),
            Some(0.5)
        );
    }

    #[test]
    fn an_aim_without_its_reference_is_neither_met_nor_missed() {
        let verdicts = row(&[1.0], &[2.0]).verdicts();
        let met: Vec<_> = verdicts.iter().map(Verdict::met).collect();
        assert_eq!(met, [Some(true), None], "crun is there, the floor is not");
    }
}
