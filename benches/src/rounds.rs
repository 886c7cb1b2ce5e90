//! Interleaving: every round asks each contender once, in an order that differs
//! from round to round, so that what a busy machine does in the meantime, and what
//! the kernel still tidies up after the predecessor, falls on all alike. It must
//! not know what is measured.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::args::Pace;
use crate::contender::Contender;
use crate::figure::Figure;
use crate::results::{Row, Track};
use crate::view::View;

/// The rest before each command at `Pace::Gap`.
const GAP: Duration = Duration::from_millis(60);

/// How often and how fast.
#[derive(Clone, Copy, Debug)]
pub struct Rounds {
    pub count: usize,
    pub view: Option<View>,
    pub pace: Option<Pace>,
}

impl Rounds {
    /// Rests as the pace says; called before each command.
    pub fn rest(self) {
        if self.pace == Some(Pace::Gap) {
            thread::sleep(GAP);
        }
    }

    /// One row per figure. `once` measures one contender in one round and returns
    /// a sample per figure. The first round warms up and is not kept. A contender
    /// that fails says so in its track and is asked no more.
    pub fn interleave<const N: usize>(
        self,
        contenders: &[&Contender],
        figures: [Figure; N],
        mut once: impl FnMut(&Contender, usize) -> Result<[f64; N]>,
    ) -> Vec<Row> {
        let mut samples = vec![Vec::with_capacity(self.count); contenders.len()];
        let mut failures: Vec<Option<String>> = vec![None; contenders.len()];
        let mut order: Vec<usize> = (0..contenders.len()).collect();
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
        for round in 0..=self.count {
            dice.shuffle(&mut order);
            for &index in &order {
                if failures[index].is_some() {
                    continue;
                }
                match once(contenders[index], round) {
                    Ok(values) if round > 0 => samples[index].push(values),
                    Ok(_) => {}
                    Err(error) => {
                        eprintln!("  FAILED: {}: {error:#}", contenders[index].name);
                        failures[index] = Some(format!("{error:#}"));
                    }
                }
            }
        }
        let row = |(column, figure): (usize, Figure)| Row {
            figure,
            view: self.view,
            pace: self.pace,
            tracks: contenders
                .iter()
                .zip(&samples)
                .zip(&failures)
                .map(|((contender, samples), failure)| Track {
                    contender: contender.name.clone(),
                    samples: samples.iter().map(|values| values[column]).collect(),
                    failure: failure.clone(),
                })
                .collect(),
        };
        figures.into_iter().enumerate().map(row).collect()
    }
}

/// A fixed pseudo-random sequence (xorshift64): the same orders in every benchmark.
struct Dice(u64);

impl Dice {
    fn shuffle(&mut self, items: &mut [usize]) {
        for last in (1..items.len()).rev() {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            items.swap(last, (self.0 % (last as u64 + 1)) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contender(name: &str) -> Contender {
        Contender {
            name: name.to_owned(),
            path: "/nonexistent".into(),
        }
    }

    #[test]
    fn each_contender_is_asked_once_a_round_and_the_first_round_is_dropped() {
        let (a, b) = (contender("a"), contender("b"));
        let mut asked = Vec::new();
        let rounds = Rounds {
            count: 3,
            view: None,
            pace: None,
        };
        let rows = rounds.interleave(&[&a, &b], [Figure::Run], |contender, round| {
            asked.push((round, contender.name.clone()));
            Ok([round as f64])
        });
        asked.sort();
        let wanted: Vec<_> = (0..4)
            .flat_map(|round| ["a", "b"].map(|name| (round, name.to_owned())))
            .collect();
        assert_eq!(asked, wanted);
        assert!(
            rows[0]
                .tracks
                .iter()
                .all(|track| track.samples == [1.0, 2.0, 3.0])
        );
    }

    #[test]
    fn a_contender_that_fails_is_left_out_and_says_why() {
        let (a, b) = (contender("a"), contender("b"));
        let rounds = Rounds {
            count: 3,
            view: None,
            pace: None,
        };
        let rows = rounds.interleave(&[&a, &b], [Figure::Run], |contender, round| {
            anyhow::ensure!(contender.name == "a" || round < 2, "broke");
            Ok([1.0])
        });
        let b = rows[0].track("b").unwrap();
        assert_eq!((b.samples.len(), b.failure.as_deref()), (1, Some("broke")));
        assert_eq!(rows[0].track("a").unwrap().samples.len(), 3);
    }
}
