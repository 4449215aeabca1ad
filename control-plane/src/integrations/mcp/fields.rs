//! Which credentials a server wants, and in which headers they go.

use super::MCP_CREDENTIAL_FIELDS_MAX;
use crate::integrations::{IntegrationError, fields::word, oauth::ACCESS_TOKEN};
use agentruntime_host_api::{HEADER_BYTES_MAX, OWN_HEADERS, Part, SecretName, SecretRef, Text};
use axum::http::{HeaderName, header::AUTHORIZATION};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where the value of a field stands in its format.
const VALUE: &str = "{value}";
/// Headers that the protocol itself has.
const PROTOCOL_HEADERS: [&str; 5] = ["accept", "content-type", "idempotency-key", "last-event-id", "user-agent"];

/// A credential that a server wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CredentialField {
    /// Its name, which config profiles bind.
    pub(crate) name: String,
    /// The header that it goes in, in lower case.
    pub(crate) header: String,
    /// The header's text, in which `{value}` stands for the credential.
    pub(crate) format: String,
}

impl CredentialField {
    /// A field as somebody declared it.
    pub(crate) fn new(name: String, header: &str, format: Option<String>) -> Result<Self, IntegrationError> {
        let invalid = |message: String| IntegrationError::invalid("credential_fields", message);
        word("credential_fields", &name)?;
        let header = HeaderName::from_bytes(header.as_bytes())
            .map_err(|_| invalid(format!("the field `{name}`: its `header` is no name of a header")))?;
        let header = header.as_str().to_owned();
        let is_taken = OWN_HEADERS.contains(&&*header) || PROTOCOL_HEADERS.contains(&&*header);
        if is_taken || header.starts_with("mcp-") || header.starts_with("proxy-") {
            return Err(invalid(format!("the field `{name}`: the header `{header}` is not for credentials")));
        }
        let format = format.unwrap_or_else(|| VALUE.to_owned());
        let is_text = format.len() <= HEADER_BYTES_MAX && format.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if !is_text || format.matches(VALUE).count() != 1 {
            let message =
                format!("the field `{name}`: write a `format` such as `Bearer {VALUE}`, with `{VALUE}` in it once");
            return Err(invalid(message));
        }
        Ok(Self { name, header, format })
    }

    /// The header's text, with the credential by name.
    fn text(&self) -> Text {
        let (before, after) = self.format.split_once(VALUE).unwrap_or_default();
        let secret = Part::Secret(SecretName { name: self.name.clone() });
        let plain = |text: &str| (!text.is_empty()).then(|| Part::Plain(text.to_owned()));
        Text(plain(before).into_iter().chain([secret]).chain(plain(after)).collect())
    }
}

/// The fields of a server with the one that every server has: the token of a connection that was authorized, where OAuth has
/// it. A declared field of its name, or in its header, stands in its place.
pub(super) fn with_token(declared: &[CredentialField]) -> Vec<CredentialField> {
    let mut fields = declared.to_vec();
    if token_field(declared).is_none() {
        fields.push(CredentialField {
            name: ACCESS_TOKEN.to_owned(),
            header: AUTHORIZATION.to_string(),
            format: format!("Bearer {VALUE}"),
        });
    }
    fields
}

/// The field that takes the token of a connection that was authorized.
pub(super) fn token_field(fields: &[CredentialField]) -> Option<&CredentialField> {
    let named = fields.iter().find(|field| field.name == ACCESS_TOKEN);
    named.or_else(|| fields.iter().find(|field| field.header == AUTHORIZATION.as_str()))
}

/// Refuses a list in which one stands in the way of another.
pub(crate) fn check(fields: &[CredentialField]) -> Result<(), IntegrationError> {
    let invalid = |message: String| IntegrationError::invalid("credential_fields", message);
    if fields.len() > MCP_CREDENTIAL_FIELDS_MAX {
        return Err(invalid(format!("{} fields; at most {MCP_CREDENTIAL_FIELDS_MAX} are allowed", fields.len())));
    }
    for (index, field) in fields.iter().enumerate() {
        let before = &fields[..index];
        if before.iter().any(|it| it.name == field.name) {
            return Err(invalid(format!("two fields have the name `{}`", field.name)));
        }
        if before.iter().any(|it| it.header == field.header) {
            return Err(invalid(format!("two fields go in the header `{}`", field.header)));
        }
    }
    Ok(())
}

/// The headers of those fields that are bound.
pub(super) fn headers(fields: &[CredentialField], bindings: &BTreeMap<String, SecretRef>) -> BTreeMap<String, Text> {
    let bound = fields.iter().filter(|field| bindings.contains_key(&field.name));
    bound.map(|field| (field.header.clone(), field.text())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, header: &str, format: Option<&str>) -> Result<CredentialField, String> {
        CredentialField::new(name.into(), header, format.map(str::to_owned)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_field_says_how_its_header_is_written() {
        let fields = [field("token", "Authorization", Some("Bearer {value}")), field("key", "X-Api-Key", None)];
        let fields: Vec<_> = fields.into_iter().map(Result::unwrap).collect();
        check(&fields).unwrap();
        let kept: SecretRef = "connection/crm/token".parse().unwrap();
        let headers = headers(&fields, &BTreeMap::from([("token".to_owned(), kept)]));
        let secret = Part::Secret(SecretName { name: "token".into() });
        let text = Text(vec![Part::Plain("Bearer ".into()), secret]);
        assert_eq!(headers, BTreeMap::from([("authorization".to_owned(), text)]), "what is not bound is not sent");
    }

    #[test]
    fn every_server_takes_a_token_in_one_field() {
        let names = |declared: &[CredentialField]| {
            let fields = with_token(declared);
            check(&fields).unwrap();
            let token = token_field(&fields).unwrap().name.clone();
            (fields.len(), token)
        };
        let key = field("key", "x-key", None).unwrap();
        let bearer = field("token", "Authorization", Some("Bearer {value}")).unwrap();
        let other = field("access_token", "x-token", None).unwrap();
        assert_eq!(names(&[]), (1, "access_token".to_owned()));
        assert_eq!(names(std::slice::from_ref(&key)), (2, "access_token".to_owned()));
        assert_eq!(names(&[key, bearer.clone()]), (2, "token".to_owned()));
        assert_eq!(names(&[bearer, other]), (2, "access_token".to_owned()));
        assert_eq!(with_token(&[])[0], field("access_token", "Authorization", Some("Bearer {value}")).unwrap());
    }

    #[test]
    fn a_field_that_would_break_a_request_is_refused() {
        for (name, header, format, part) in [
            ("", "x-key", None, "a name here"),
            ("a b", "x-key", None, "a name here"),
            ("a", "x key", None, "no name of a header"),
            ("a", "Host", None, "`host` is not for credentials"),
            ("a", "Content-Type", None, "not for credentials"),
            ("a", "Mcp-Session-Id", None, "not for credentials"),
            ("a", "Proxy-Authorization", None, "not for credentials"),
            ("a", "x-key", Some("Bearer"), "`Bearer {value}`"),
            ("a", "x-key", Some("{value}{value}"), "once"),
            ("a", "x-key", Some("a\r\nHost: b {value}"), "`Bearer {value}`"),
        ] {
            let error = field(name, header, format).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        let (a, b) = (field("a", "x-key", None).unwrap(), field("b", "X-Key", None).unwrap());
        assert!(check(&[a.clone(), b]).unwrap_err().to_string().contains("header `x-key`"));
        assert!(check(&[a.clone(), a.clone()]).unwrap_err().to_string().contains("name `a`"));
        let many = (0..17).map(|at| field(&format!("f{at}"), &format!("x-{at}"), None).unwrap());
        assert!(check(&many.collect::<Vec<_>>()).is_err());
    }
}
