//! A case, its contenders, and rounds.
//!
//! A *case* is a question with a goal: how many frames of 64 bytes pass from guest to guest. Its
//! *contenders* answer in turns: a round runs each of them once. A machine that gets slower in
//! between does so for all contenders, and figures are compared only within a round. A *ratio* is
//! the median of the ratios of the rounds, not the ratio of two medians.
//!
//! A contender that cannot run, or that fails, reports the reason, and the case goes on with the
//! others. This file does not know what is measured; `figures.rs` has the arithmetic.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::Result;
use crate::figures::{MedianRange, ratio_of_rounds};

/// Whether more is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Rates.
    Higher,
    /// Times, shares.
    Lower,
}

/// The role of a contender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// This program with its default settings.
    Ours,
    /// This program with an opt-in setting. No goal is judged by it.
    OptIn,
    /// Another program for the same task.
    Peer,
    /// A plain loop: the limit of the machine.
    Limit,
}

/// One measurement.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// In the unit of the case.
    pub value: f64,
    /// Processor time of the back-end for each frame, nanoseconds.
    pub cpu_each: Option<f64>,
    /// The share of a processor that the back-end used: 0 to 1, more with several threads.
    pub cpu_share: Option<f64>,
    /// Frames lost, of those sent, 0 to 1.
    pub lost: Option<f64>,
    /// Other figures, by name.
    pub extras: Vec<(&'static str, f64)>,
}

/// One answer to a case.
pub struct Contender {
    /// Short, unique within the case.
    pub name: String,
    /// The role of the contender.
    pub role: Role,
    /// Takes one sample.
    pub run: Box<dyn FnMut() -> Result<Sample>>,
}

impl Contender {
    /// A contender.
    pub fn new(
        name: impl Into<String>,
        role: Role,
        run: impl FnMut() -> Result<Sample> + 'static,
    ) -> Contender {
        Contender { name: name.into(), role, run: Box::new(run) }
    }

    /// A contender that cannot run, with the reason.
    pub fn absent(name: impl Into<String>, role: Role, why: impl Into<String>) -> Contender {
        let why = why.into();
        Contender::new(name, role, move || Err(why.clone().into()))
    }
}

/// Judges an outcome; `None` if a contender that it needs did not run.
pub type Check = Box<dyn Fn(&Outcome) -> Option<bool>>;

/// The goal of a case.
pub struct Goal {
    /// In words.
    pub text: String,
    /// Whether it was reached.
    pub check: Check,
    /// Whether this machine cannot reach it, as the limit shows.
    pub beyond: Check,
}

impl Goal {
    /// A goal.
    pub fn new(
        text: impl Into<String>,
        check: impl Fn(&Outcome) -> Option<bool> + 'static,
    ) -> Goal {
        Goal { text: text.into(), check: Box::new(check), beyond: Box::new(|_| None) }
    }

    /// Says when this machine cannot reach the goal; the report adds that to "not met".
    pub fn beyond(mut self, limit: impl Fn(&Outcome) -> Option<bool> + 'static) -> Goal {
        self.beyond = Box::new(limit);
        self
    }

    /// No goal: the figure itself is of interest.
    pub fn none() -> Goal {
        Goal::new("", |_| None)
    }
}

/// A question.
pub struct Case {
    /// The name on the command line and in the report, such as P1.
    pub id: &'static str,
    /// In words.
    pub title: String,
    /// Of the values.
    pub unit: &'static str,
    /// Whether more or less is better.
    pub better: Better,
    /// The goal.
    pub goal: Goal,
    /// The contenders, this program first.
    pub contenders: Vec<Contender>,
    /// The conditions that a reader needs: sizes, windows, what is not compared.
    pub conditions: String,
}

/// The answer of one contender.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// One sample for each round; `None` where the contender failed.
    pub samples: Vec<Option<Sample>>,
    /// The reason of its last failure.
    pub error: Option<String>,
}

impl Row {
    /// Median and range of one figure of the samples, if there is any.
    pub fn spread(&self, figure: impl Fn(&Sample) -> Option<f64>) -> Option<MedianRange> {
        MedianRange::of(self.samples.iter().flatten().filter_map(figure))
    }

    /// Median and range of the values.
    pub fn value(&self) -> Option<MedianRange> {
        self.spread(|sample| Some(sample.value))
    }

    /// Median and range of an extra figure.
    pub fn extra(&self, name: &str) -> Option<MedianRange> {
        self.spread(|sample| sample.extras.iter().find(|(n, _)| *n == name).map(|(_, v)| *v))
    }
}

/// The result of a case.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// See [`Case`].
    pub id: &'static str,
    /// See [`Case`].
    pub title: String,
    /// See [`Case`].
    pub unit: &'static str,
    /// See [`Case`].
    pub better: Better,
    /// The goal in words.
    pub goal: String,
    /// Whether it was reached.
    pub met: Option<bool>,
    /// Whether not even the limit reaches it.
    pub beyond: bool,
    /// See [`Case`].
    pub conditions: String,
    /// The contenders' answers.
    pub rows: Vec<Row>,
}

impl Outcome {
    /// The answer of this contender.
    pub fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// The first of this role that has an answer.
    pub fn first(&self, role: Role) -> Option<&Row> {
        self.rows.iter().find(|row| row.role == role && row.value().is_some())
    }

    /// The best of this role, by median.
    pub fn best(&self, role: Role) -> Option<&Row> {
        let of_role = self.rows.iter().filter(|row| row.role == role);
        let with_value = of_role.filter_map(|row| row.value().map(|value| (row, value.median)));
        let better = |a: f64, b: f64| match self.better {
            Better::Higher => a > b,
            Better::Lower => a < b,
        };
        with_value.reduce(|a, b| if better(b.1, a.1) { b } else { a }).map(|(row, _)| row)
    }

    /// Median of one contender's value.
    pub fn median(&self, name: &str) -> Option<f64> {
        self.row(name)?.value().map(|value| value.median)
    }

    /// Median and range, over the rounds, of one contender's value by another's.
    pub fn ratio(&self, name: &str, to: &str) -> Option<MedianRange> {
        let values = |name: &str| -> Option<Vec<Option<f64>>> {
            let row = self.row(name)?;
            Some(row.samples.iter().map(|s| s.as_ref().map(|s| s.value)).collect())
        };
        ratio_of_rounds(&values(name)?, &values(to)?)
    }
}

/// Runs the rounds of a case; `said` receives a line for every sample.
pub fn run(case: Case, rounds: usize, mut said: impl FnMut(&str)) -> Outcome {
    let Case { id, title, unit, better, goal, mut contenders, conditions } = case;
    let mut rows: Vec<Row> = contenders
        .iter()
        .map(|c| Row { name: c.name.clone(), role: c.role, samples: Vec::new(), error: None })
        .collect();
    for round in 1..=rounds {
        for (contender, row) in contenders.iter_mut().zip(&mut rows) {
            // A contender that failed twice will fail again.
            let hopeless = row.error.is_some() && row.samples.iter().all(Option::is_none);
            if hopeless && round > 2 {
                row.samples.push(None);
                continue;
            }
            match sample(contender) {
                Ok(sample) => {
                    said(&format!(
                        "{id} {round}/{rounds} {}: {:.4} {unit}",
                        row.name, sample.value
                    ));
                    row.samples.push(Some(sample));
                }
                Err(error) => {
                    said(&format!("{id} {round}/{rounds} {}: {error}", row.name));
                    row.samples.push(None);
                    row.error = Some(error.to_string());
                }
            }
        }
    }
    let goal_text = goal.text.clone();
    let mut outcome = Outcome {
        id,
        title,
        unit,
        better,
        goal: goal_text,
        met: None,
        beyond: false,
        conditions,
        rows,
    };
    outcome.met = (goal.check)(&outcome);
    outcome.beyond = (goal.beyond)(&outcome) == Some(true);
    outcome
}

/// Takes one sample. A panic of the test kit counts as a failure of the contender.
fn sample(contender: &mut Contender) -> Result<Sample> {
    let caught = catch_unwind(AssertUnwindSafe(|| (contender.run)()));
    caught.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(text.unwrap_or_else(|| "failed without a word".to_owned()).into())
    })
}
