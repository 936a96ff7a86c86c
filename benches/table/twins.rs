//! Another build of this program beside this one, for the question whether a change made it slower.
//!
//! `--before PROGRAM` gives each contender that is this program a twin, which runs PROGRAM with the
//! same settings in the same round. Nothing else runs, so a round is short. The ratios are printed,
//! and no report is written.
//!
//! What can go wrong: PROGRAM must know the flags that the cases use. A twin whose program does not
//! start is printed with the reason.

use std::cell::RefCell;
use std::rc::Rc;

use crate::measure::{Case, Contender, Outcome, Role};
use crate::peers::ours;

/// What a twin's name has behind its contender's.
const BEFORE: &str = ", before";

/// The contenders of a case that are this program, each with its twin.
pub fn with_twins(case: Case, program: &str) -> Case {
    let mut contenders = Vec::new();
    for Contender { name, role, run } in case.contenders {
        if role != Role::Ours {
            continue;
        }
        let run = Rc::new(RefCell::new(run));
        let (twin, before) = (Rc::clone(&run), program.to_owned());
        let twin_name = format!("{name}{BEFORE}");
        contenders.push(Contender::new(name, role, move || (run.borrow_mut())()));
        contenders.push(Contender::new(twin_name, Role::OptIn, move || {
            ours::with_program(&before, || (twin.borrow_mut())())
        }));
    }
    Case { contenders, ..case }
}

/// One line for each contender: median and range of the ratios of the rounds.
pub fn ratios(outcome: &Outcome) -> String {
    let ours = outcome.rows.iter().filter(|row| row.role == Role::Ours);
    let lines = ours.map(|row| match outcome.ratio(&row.name, &format!("{}{BEFORE}", row.name)) {
        Some(ratio) => format!(
            "{:10} {}: {:.3} of before ({:.3} to {:.3})\n",
            outcome.id, row.name, ratio.median, ratio.least, ratio.most
        ),
        None => format!("{:10} {}: no ratio\n", outcome.id, row.name),
    });
    lines.collect()
}
