//! "Did you mean ...?": the word that a user most likely meant.
//!
//! A refusal that lists twenty words leaves the search to the reader. Two kinds of wrong words have one
//! right word as their answer: typing errors (a letter too many, too few or wrong, or two exchanged), and
//! other programs' words for the same thing, such as QEMU's `queues`, cloud-hypervisor's `num_queues`,
//! passt's `--socket` or a bridge helper's `iface`. The caller brings the latter. Words are compared in
//! lower case and with `-` for `_`.
//!
//! What can go wrong: a suggestion that is far off is worse than none. So the number of typing errors
//! that are forgiven grows with the word's length. A short word may have one at most.

/// A word in the form in which words are compared.
pub fn plain(word: &str) -> String {
    word.to_lowercase().replace('_', "-")
}

/// The known word that was most likely meant, if one is near.
pub fn nearest<'a>(word: &str, known: &[&'a str], foreign: &[(&str, &'a str)]) -> Option<&'a str> {
    let word = plain(word);
    let same = known.iter().copied().find(|candidate| *candidate == word);
    let meant = || foreign.iter().find(|(other, _)| *other == word).map(|&(_, here)| here);
    let meant = || meant().filter(|here| known.contains(here));
    let close = || {
        let far = |candidate: &&str| distance(&word, candidate);
        let best = known.iter().copied().min_by_key(far)?;
        (far(&best) <= forgiven(&word, best)).then_some(best)
    };
    let begins = || {
        let fits = |candidate: &&&str| word.len() >= 3 && candidate.starts_with(&word);
        known.iter().filter(fits).copied().min_by_key(|candidate| candidate.len())
    };
    let nearly_meant = || {
        let near = |&&(other, _): &&(&str, &str)| other.len() >= 5 && distance(&word, other) == 1;
        foreign.iter().find(near).map(|&(_, here)| here).filter(|here| known.contains(here))
    };
    same.or_else(meant).or_else(close).or_else(nearly_meant).or_else(begins)
}

/// The question to be put behind a refusal; empty where no word is near.
pub fn did_you_mean(word: &str, known: &[&str], foreign: &[(&str, &str)]) -> String {
    nearest(word, known, foreign).map_or(String::new(), |meant| format!("did you mean {meant}?"))
}

/// How many typing errors are forgiven between two words.
fn forgiven(word: &str, other: &str) -> usize {
    match word.chars().count().min(other.chars().count()) {
        0..=2 => 0,
        3..=4 => 1,
        5..=8 => 2,
        _ => 3,
    }
}

/// The number of letters inserted, left out, replaced, or exchanged with their neighbour (optimal string
/// alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let other = usize::from(a[i - 1] != b[j - 1]);
            let above = &rows[i - 1];
            row[j] = (above[j] + 1).min(row[j - 1] + 1).min(above[j - 1] + other);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(rows[i - 2][j - 2] + 1);
            }
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_typing_errors() {
        for (a, b, errors) in [
            ("bridge", "bridge", 0),
            ("brigde", "bridge", 1),
            ("bridg", "bridge", 1),
            ("brridge", "bridge", 1),
            ("vepo", "vepa", 1),
            ("ab", "ba", 1),
            ("", "mac", 3),
            ("abcd", "badc", 2),
        ] {
            assert_eq!(distance(a, b), errors, "{a} {b}");
            assert_eq!(distance(b, a), errors, "{b} {a}");
        }
    }
}
