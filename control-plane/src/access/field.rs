//! The form of texts that people give: names, addresses, slugs. The one place that decides what each may hold.

use super::AccessError;
use uuid::Uuid;

/// The longest name of anything, in characters: lists show names in one line.
pub(crate) const NAME_CHARS_MAX: usize = 100;
/// The longest address, by RFC 5321, in bytes.
pub(crate) const EMAIL_BYTES_MAX: usize = 254;
/// The longest part before the `@`, by RFC 5321, in bytes.
const LOCAL_PART_BYTES_MAX: usize = 64;
/// The longest label of a host name, in bytes.
pub(crate) const LABEL_BYTES_MAX: usize = 63;
/// The longest slug, in characters: what a label of a host name may have.
const SLUG_CHARS_MAX: usize = LABEL_BYTES_MAX;

/// Slugs that nobody gets: words of the API's paths, so that a slug can stand in a path beside them, and words that mean no
/// workspace or project in particular. A test holds them together with the paths.
const SLUGS_RESERVED: &str = "accept admin api approve audit auth authorize callback catalog command complete config-profiles \
    connections context current diff discover docs domains events forgot google healthz inbound-webhooks instances \
    integrity invite invites llm login logout mcp me members metrics new none null oauth openapi password pats \
    pending platform-catalog project projects providers readyz reject reset resolve rotate-secret runs schema servers \
    sessions set-active settings signup start static stream summary system tasks tenant tenants tools triggers \
    undefined users v1 validate vault verify versions workflows workspace www";

/// A name as it is kept: without blanks around it. Refuses one that is empty or too long, and one with characters that could
/// make a reader see something else than what is there.
pub(crate) fn name(field: &'static str, text: &str) -> Result<String, AccessError> {
    let text = text.trim();
    check_name(text, NAME_CHARS_MAX).or_else(|message| refused(field, message))?;
    Ok(text.to_owned())
}

/// Why a text is no name of so many characters at most, as a sentence: it is empty or too long, or holds characters that
/// could make a reader see something else than what is there.
pub(crate) fn check_name(text: &str, chars_max: usize) -> Result<(), String> {
    if text.trim().is_empty() || text.chars().count() > chars_max {
        return Err(format!("write 1 to {chars_max} characters"));
    }
    check_visible(text)
}

/// Why a text may not stand in a list for people, as a sentence: it holds characters that could make a reader see something
/// else than what is there.
pub(crate) fn check_visible(text: &str) -> Result<(), String> {
    match text.chars().find(|char| is_deceptive(*char)) {
        None => Ok(()),
        Some(char) => {
            let code = u32::from(char);
            Err(format!("write it in one line, without control characters and invisible ones (U+{code:04X})"))
        }
    }
}

/// A text that was not given by a person, such as a browser's name for itself, without what [`name`] refuses.
pub(crate) fn plain(text: &str, chars_max: usize) -> String {
    text.chars().filter(|char| !is_deceptive(*char)).take(chars_max).collect()
}

/// Characters that show nothing, turn the direction of what stands beside them, or break the line. The two joiners that
/// scripts and pictures are written with may stay, and so may the two that choose between a letter and a picture.
fn is_deceptive(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180e}'
            | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0d}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// An address as it is kept and compared: in lower case, without space around it. Only the plain form is taken, in ASCII:
/// quoted parts and letters that look like others let two addresses look like one, or one be written in many ways.
pub(crate) fn email(text: &str) -> Result<String, AccessError> {
    let email = text.trim().to_ascii_lowercase();
    let parts = email.split_once('@').filter(|_| email.len() <= EMAIL_BYTES_MAX);
    match parts {
        Some((local, domain)) if is_local_part(local) && is_domain(domain) => Ok(email),
        Some(_) | None => {
            let message = "write an address such as ada@example.com: in ASCII, without quotes; a domain of another script \
                as its xn-- form";
            refused("email", message.to_owned())
        }
    }
}

/// Words of letters, digits and what RFC 5322 lets stand beside them, joined by dots.
fn is_local_part(text: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty()
            && word.chars().all(|char| char.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(char))
    };
    text.len() <= LOCAL_PART_BYTES_MAX && text.split('.').all(is_word)
}

/// Labels of a host name, joined by dots.
fn is_domain(text: &str) -> bool {
    text.split('.').all(is_label)
}

/// Whether a text is a label of a host name, in lower case.
pub(crate) fn is_label(text: &str) -> bool {
    (1..=LABEL_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn reserved_slugs() -> impl Iterator<Item = &'static str> {
    SLUGS_RESERVED.split(' ')
}

/// Refuses what cannot be a slug: lower-case letters, digits and hyphens, beginning with a letter. So no slug looks like an
/// id, and every slug is a host name's part. Words of the API are nobody's.
pub(crate) fn check_slug(slug: &str) -> Result<(), AccessError> {
    let begins_with_letter = slug.starts_with(|first: char| first.is_ascii_lowercase());
    if !is_label(slug) || !begins_with_letter || slug.parse::<Uuid>().is_ok() {
        let message = format!(
            "write up to {SLUG_CHARS_MAX} lower-case letters, digits and hyphens, with a letter first and no hyphen last"
        );
        return refused("slug", message);
    }
    match reserved_slugs().any(|word| word == slug) {
        true => refused("slug", format!("`{slug}` is a word of the API; choose another slug")),
        false => Ok(()),
    }
}

fn refused<T>(field: &'static str, message: String) -> Result<T, AccessError> {
    Err(AccessError::Invalid { field, message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_line_that_shows_all_it_holds() {
        assert_eq!(name("name", "  Acme Ltd ").unwrap(), "Acme Ltd");
        for fine in ["Ä", "株式会社", "می\u{200c}خواهم", "👩\u{200d}💻", "❤\u{fe0f}", &"ä".repeat(NAME_CHARS_MAX)]
        {
            assert!(name("name", fine).is_ok(), "{fine:?}");
        }
        for wrong in ["", "  ", "a\nb", "a\0b", "\u{1b}[2J", "\u{9b}2J", &"ä".repeat(NAME_CHARS_MAX + 1)] {
            assert!(name("name", wrong).is_err(), "{wrong:?}");
        }
        let hidden = "\u{202e}\u{2066}\u{200f}\u{200b}\u{2028}\u{feff}\u{3164}\u{e0041}\u{34f}\u{2800}\u{fe00}";
        for hidden in hidden.chars() {
            let refusal = name("name", &format!("ad{hidden}min")).unwrap_err().to_string();
            assert!(refusal.contains(&format!("U+{:04X}", u32::from(hidden))), "{refusal}");
        }
    }

    #[test]
    fn what_nobody_typed_is_kept_without_what_deceives() {
        assert_eq!(plain("Mozilla/5.0\u{202e}\r\n (X11)", 100), "Mozilla/5.0 (X11)");
        assert_eq!(plain("abc", 2), "ab");
    }

    #[test]
    fn an_address_is_compared_in_lower_case() {
        assert_eq!(email(" Ada@Example.COM ").unwrap(), "ada@example.com");
        for fine in ["owner@localhost", "o'hara+tag@xn--bcher-kva.example", "a.b_c-d@1.example", "root@sub.example.com"]
        {
            assert_eq!(email(fine).unwrap(), fine);
        }
    }

    #[test]
    fn only_plain_addresses_are_taken() {
        let wrong = [
            "",
            "ada",
            "ada@",
            "@example.com",
            "a b@example.com",
            "a@example.com\r\nBcc: b@example.com",
            "a\0@example.com",
            "\"a b\"@example.com",
            "\"ada\"@example.com",
            ".ada@example.com",
            "ada.@example.com",
            "a..b@example.com",
            "ada@[127.0.0.1]",
            "ada@example..com",
            "ada@.example.com",
            "ada@example.com.",
            "ada@-example.com",
            "a@b@c.com",
            "ada@exa\u{202e}mple.com",
            "\u{430}da@example.com",
            "ada@ex\u{430}mple.com",
            "ada@bücher.example",
            "K@\u{212a}.com",
            "ada@example.com, eve@example.com",
            "Ada <ada@example.com>",
            "ada(comment)@example.com",
        ];
        for wrong in wrong {
            assert!(email(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn no_part_of_an_address_is_too_long() {
        let local = |bytes| email(&format!("{}@example.com", "a".repeat(bytes)));
        assert!(local(LOCAL_PART_BYTES_MAX).is_ok() && local(LOCAL_PART_BYTES_MAX + 1).is_err());
        let label = |bytes| email(&format!("ada@{}.com", "a".repeat(bytes)));
        assert!(label(LABEL_BYTES_MAX).is_ok() && label(LABEL_BYTES_MAX + 1).is_err());
        let whole = |bytes: usize| {
            let beginning = format!("{}@{}", "a".repeat(LOCAL_PART_BYTES_MAX), "b.".repeat(90));
            email(&format!("{beginning}{}", "c".repeat(bytes - beginning.len())))
        };
        assert!(whole(EMAIL_BYTES_MAX).is_ok() && whole(EMAIL_BYTES_MAX + 1).is_err());
    }

    #[test]
    fn a_slug_is_a_plain_name_and_no_id() {
        for fine in ["acme", "a", "acme-2", "default", "currently", &"a".repeat(63)] {
            assert!(check_slug(fine).is_ok(), "{fine}");
        }
        for wrong in
            ["", "Acme", "2fast", "-a", "a-", "a b", "ä", &"a".repeat(64), "a0000000-0000-4000-8000-000000000000"]
        {
            assert!(check_slug(wrong).is_err(), "{wrong}");
        }
        for reserved in ["current", "members", "invites", "v1"] {
            assert!(check_slug(reserved).unwrap_err().to_string().contains("word of the API"), "{reserved}");
        }
    }

    #[test]
    fn the_reserved_words_are_sorted_and_there_once() {
        assert!(reserved_slugs().is_sorted_by(|one, next| one < next));
        assert!(reserved_slugs().all(is_label));
    }
}
