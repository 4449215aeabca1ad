//! The form of texts that people give: names, and what they hold at most.

use super::AccessError;

/// The longest name of anything, in characters: lists show names in one line.
pub(crate) const NAME_CHARS_MAX: usize = 100;

/// A name as it is kept: without blanks around it. Refuses one that is empty, too long, or holds control characters, which
/// could make a terminal or a log show something else than what is there.
pub(crate) fn name(field: &'static str, text: &str) -> Result<String, AccessError> {
    let text = text.trim();
    let is_fine = !text.is_empty() && text.chars().count() <= NAME_CHARS_MAX && !text.chars().any(char::is_control);
    if is_fine {
        return Ok(text.to_owned());
    }
    let message = format!("write 1 to {NAME_CHARS_MAX} characters, in one line");
    Err(AccessError::Invalid { field, message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_line() {
        assert_eq!(name("name", "  Acme Ltd ").unwrap(), "Acme Ltd");
        assert!(name("name", &"ä".repeat(NAME_CHARS_MAX)).is_ok());
        for wrong in ["", "  ", "a\nb", "\u{1b}[2J", &"ä".repeat(NAME_CHARS_MAX + 1)] {
            assert!(name("name", wrong).is_err(), "{wrong:?}");
        }
    }
}
