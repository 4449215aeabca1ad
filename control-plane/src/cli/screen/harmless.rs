//! Text that cannot do anything to a terminal.
//!
//! Names, messages and payloads come from authors and clients. Of everything that a terminal obeys, only line breaks, tabs
//! and colours (the program's own) pass; the rest is shown as the character for what cannot be shown.

use std::borrow::Cow;

/// The text without characters that move, hide, reorder or command.
pub(crate) fn text(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let colour = colour_bytes(rest);
        if colour > 0 {
            shown.push_str(&rest[..colour]);
            rest = &rest[colour..];
            continue;
        }
        shown.push(if is_harmful(first) { char::REPLACEMENT_CHARACTER } else { first });
        rest = &rest[first.len_utf8()..];
    }
    Cow::Owned(shown)
}

/// The same for a text that comes from a model: it has no colours of its own either.
pub(crate) fn said(text: &str) -> String {
    text.chars().map(|c| if is_harmful(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// The length of a colour sequence (`ESC [ 1;32 m`) at the beginning.
fn colour_bytes(text: &str) -> usize {
    let Some(parameters) = text.strip_prefix("\u{1b}[") else { return 0 };
    match parameters.find(|c: char| !c.is_ascii_digit() && c != ';') {
        Some(end) if parameters[end..].starts_with('m') => end + 3,
        _ => 0,
    }
}

/// Control characters, and those that turn or break lines in ways that a reader does not see.
fn is_harmful(c: char) -> bool {
    let is_control = c.is_control() && c != '\n' && c != '\t';
    let is_format = matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{061c}')
        || ('\u{202a}'..='\u{202e}').contains(&c)
        || ('\u{2066}'..='\u{2069}').contains(&c);
    is_control || is_format
}

#[cfg(test)]
mod tests {
    use super::{said, text};

    #[test]
    fn a_model_has_no_colours() {
        assert_eq!(said("a\u{1b}[1;32mb\n\tc é\u{202e}\r"), "a\u{fffd}[1;32mb\n\tc é\u{fffd}\u{fffd}");
    }

    #[test]
    fn colours_and_lines_pass_and_commands_do_not() {
        assert_eq!(text("a\u{1b}[1;32mb\u{1b}[0m\n\tc é 漢"), "a\u{1b}[1;32mb\u{1b}[0m\n\tc é 漢");
        assert_eq!(text("\u{1b}]0;title\u{7}"), "\u{fffd}]0;title\u{fffd}");
        assert_eq!(text("\u{1b}[2J\r\u{9b}2J\u{7f}"), "\u{fffd}[2J\u{fffd}\u{fffd}2J\u{fffd}");
        assert_eq!(text("\u{202e}evil\u{2028}"), "\u{fffd}evil\u{fffd}");
        assert_eq!(text("\u{1b}[31"), "\u{fffd}[31");
    }
}
