//! The name that somebody probably meant.

/// How alike two names must be before one is suggested for the other: below this a suggestion misleads.
const LIKENESS_MIN: f64 = 0.7;

/// Longer names are not compared.
const LENGTH_MAX: usize = 48;

/// The candidate that is most like the word, where one is alike enough; among equals the first.
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let word = word.to_lowercase();
    let mut best: Option<(&str, f64)> = None;
    for candidate in candidates {
        let likeness = likeness(&word, &candidate.to_lowercase());
        if likeness >= LIKENESS_MIN && best.is_none_or(|(_, most)| likeness > most) {
            best = Some((candidate, likeness));
        }
    }
    best.map(|(candidate, _)| candidate)
}

/// `steps` and `step`, `tool_arg` and `tool_args`, `scirpt` and `script` are alike; `a` and `b` are not.
fn likeness(left: &str, right: &str) -> f64 {
    // The comparison takes the product of the lengths, and nobody mistypes a name this long.
    let longest = left.len().max(right.len());
    if longest > LENGTH_MAX {
        return 0.0;
    }
    let edits = strsim::osa_distance(left, right);
    let by_edits = 1.0 - edits as f64 / longest.max(1) as f64;
    by_edits.max(strsim::jaro_winkler(left, right) - 0.15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_the_name_that_was_meant() {
        let names = ["script", "depends_on", "condition", "skip_when"];
        assert_eq!(nearest("scirpt", names), Some("script"));
        assert_eq!(nearest("dependsOn", names), Some("depends_on"));
        assert_eq!(nearest("Condition", names), Some("condition"));
        assert_eq!(nearest("zebra", names), None);
        assert_eq!(nearest("x".repeat(10_000).as_str(), names), None);
    }
}
