//! What mails say. Each names the request that goes on from it, ready to be copied onto a command line, as long as there is
//! no page to open instead.

use super::Mail;
use url::Url;

/// Who signs up has the address, if this arrives there.
pub(crate) fn verify(base: &Url, to: String, token: &str) -> Mail {
    let body = format!(r#"{{"token":"{token}","password":"NEW-PASSWORD"}}"#);
    let call = curl(base, "auth/verify", JSON, &body);
    let text = format!(
        "Somebody, probably you, wants an account at {base} with this address.\n\n\
         Confirm it within 24 hours with this token, and choose your password:\n\n  {token}\n\n\
         On a command line, with your password in place of NEW-PASSWORD:\n\n{call}\n\n\
         If it was not you, do nothing: no account is made.\n"
    );
    Mail { to, subject: "Confirm your address".into(), text }
}

/// Who signs up has an account.
pub(crate) fn known(base: &Url, to: String) -> Mail {
    let text = format!(
        "Somebody, probably you, wanted to sign up at {base} with this address. There is an account already.\n\n\
         Sign in with it:\n\n{}\n\nIf the password is forgotten, ask for a mail with which to set another:\n\n{}\n\n\
         If it was not you, do nothing.\n",
        sign_in(base, &to),
        curl(base, "auth/password/forgot", JSON, &format!(r#"{{"email":"{}"}}"#, quoted(&to))),
    );
    Mail { to, subject: "You have an account already".into(), text }
}

/// Who forgot a password sets another.
pub(crate) fn reset(base: &Url, to: String, token: &str) -> Mail {
    let body = format!(r#"{{"token":"{token}","password":"NEW-PASSWORD"}}"#);
    let call = curl(base, "auth/password/reset", JSON, &body);
    let text = format!(
        "Somebody, probably you, wants to set a new password at {base}.\n\n\
         Set it within an hour with this token:\n\n  {token}\n\n\
         On a command line, with your password in place of NEW-PASSWORD:\n\n{call}\n\n\
         If it was not you, do nothing: the password stays as it is.\n"
    );
    Mail { to, subject: "Set a new password".into(), text }
}

/// A password is another than it was.
pub(crate) fn changed(to: String) -> Mail {
    let text = "Your password was set anew, and all sessions were ended.\n\n\
        If it was not you, somebody reads your mail: ask for a new password, and change that of your mail first.\n";
    Mail { to, subject: "Your password was changed".into(), text: text.into() }
}

/// An invitation to a workspace.
pub(crate) struct Invitation<'a> {
    /// The address of who invites.
    pub(crate) from: &'a str,
    /// The workspace.
    pub(crate) slug: &'a str,
    /// What is accepted with.
    pub(crate) token: &'a str,
    /// Until when.
    pub(crate) expires: String,
}

/// Somebody is invited.
pub(crate) fn invitation(base: &Url, to: String, invitation: &Invitation<'_>) -> Mail {
    let Invitation { from, slug, token, expires } = invitation;
    let sign_up = curl(base, "auth/signup", JSON, &format!(r#"{{"email":"{}"}}"#, quoted(&to)));
    let accept = [JSON, &["-b cookies.txt", "-H 'X-CSRF-Token: CSRF-TOKEN'"]].concat();
    let accept = curl(base, "invites/accept", &accept, &format!(r#"{{"token":"{token}"}}"#));
    let text = format!(
        "{from} invites you to the workspace `{slug}` at {base}.\n\n\
         Accept it, signed in with this address, with this token. It is good once, until {expires}:\n\n  {token}\n\n\
         On a command line:\n\n\
         1. Without an account, ask for one. A mail says how it goes on.\n\n{sign_up}\n\n\
         2. Sign in, with your password in place of PASSWORD. The answer holds a `csrf_token`.\n\n{}\n\n\
         3. Accept, with what it holds in place of CSRF-TOKEN.\n\n{accept}\n\n\
         If you do not know what this is about, there is nothing to do.\n",
        sign_in(base, &to),
    );
    Mail { to, subject: format!("Invitation to {slug}"), text }
}

const JSON: &[&str] = &["-H 'Content-Type: application/json'"];

fn sign_in(base: &Url, email: &str) -> String {
    let body = format!(r#"{{"email":"{}","password":"PASSWORD"}}"#, quoted(email));
    curl(base, "auth/login", &[JSON, &["-c cookies.txt"]].concat(), &body)
}

/// A command, in lines that stay whole where they are shown as they are.
fn curl(base: &Url, path: &str, options: &[&str], body: &str) -> String {
    let base = base.as_str().trim_end_matches('/');
    let options: String = options.iter().map(|option| format!("    {option} \\\n")).collect();
    format!("  curl {base}/v1/{path} \\\n{options}    -d '{body}'")
}

/// An address within what a shell takes as it is: `'` is all that would end it, and an address has nothing that JSON escapes.
fn quoted(email: &str) -> String {
    email.replace('\'', r"'\''")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_stays_within_its_quotes() {
        let mail = known(&"http://127.0.0.1:1".parse().unwrap(), "o'hara@example.com".into());
        assert!(mail.text.contains(r#"-d '{"email":"o'\''hara@example.com","password":"PASSWORD"}'"#), "{}", mail.text);
    }
}
