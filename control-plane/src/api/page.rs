//! Pages of lists: `{ items, next_cursor }`, asked for by `limit` and `cursor`.
//!
//! A cursor is the place of the last item in the list's order, as opaque text. A list that grows while it is read neither
//! repeats nor leaves out what was there.

use super::problem::Problem;
use axum::http::StatusCode;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use utoipa::{IntoParams, ToSchema};

/// Items on a page where the request does not say.
pub(crate) const LIMIT_DEFAULT: u32 = 50;
/// Items on a page at most: a page is held in memory.
pub(crate) const LIMIT_MAX: u32 = 200;

/// Which page is wanted.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// How many items at most: 1 to 200, 50 where it is missing.
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub(crate) limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub(crate) cursor: Option<String>,
}

/// One page.
#[derive(Serialize, ToSchema)]
pub(crate) struct Page<T> {
    /// What is on it.
    pub(crate) items: Vec<T>,
    /// Asks for the next page; nothing on the last one.
    pub(crate) next_cursor: Option<String>,
}

impl PageQuery {
    /// How many items at most.
    pub(crate) fn limit(&self) -> Result<u32, Problem> {
        match self.limit.unwrap_or(LIMIT_DEFAULT) {
            limit @ 1..=LIMIT_MAX => Ok(limit),
            _ => Err(Problem::query("limit", format!("it is 1 to {LIMIT_MAX}"))),
        }
    }

    /// The place after which the page begins.
    pub(crate) fn after<C: DeserializeOwned>(&self) -> Result<Option<C>, Problem> {
        let Some(text) = &self.cursor else { return Ok(None) };
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok();
        // A cursor is only text to whoever brings it: what the database could not compare is none.
        let bytes = bytes.filter(|bytes| !bytes.windows(6).any(|part| part == b"\\u0000"));
        let place = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        place.map(Some).ok_or_else(|| {
            let error = "`cursor` is not one that a page gave; begin without it";
            Problem::new(StatusCode::BAD_REQUEST, "INVALID_CURSOR", error)
        })
    }
}

impl<T> Page<T> {
    /// A page of records that were asked for one more than fits: the one too many says that there is a next page.
    pub(crate) fn of<R, C: Serialize>(
        mut records: Vec<R>,
        limit: u32,
        place: impl Fn(&R) -> C,
        item: impl Fn(R) -> T,
    ) -> Self {
        let has_more = records.len() > limit as usize;
        records.truncate(limit as usize);
        Self::cut(records, has_more, place, item)
    }

    /// A page of records of which it is known whether others follow.
    pub(crate) fn cut<R, C: Serialize>(
        records: Vec<R>,
        has_more: bool,
        place: impl Fn(&R) -> C,
        item: impl Fn(R) -> T,
    ) -> Self {
        let next_cursor = records.last().filter(|_| has_more).map(|record| cursor(&place(record)));
        Self { items: records.into_iter().map(item).collect(), next_cursor }
    }
}

fn cursor<C: Serialize>(place: &C) -> String {
    let text = serde_json::to_vec(place).expect("a place is a list of plain values");
    BASE64_URL_SAFE_NO_PAD.encode(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other() {
        let page = Page::of(vec![1, 2, 3], 2, |record| *record, |record| record);
        assert_eq!(page.items, [1, 2]);
        let next = PageQuery { limit: Some(2), cursor: page.next_cursor };
        assert_eq!(next.after::<i32>().unwrap(), Some(2));
        assert_eq!(Page::of(vec![3], 2, |record| *record, |record| record).next_cursor, None);
    }

    #[test]
    fn a_cursor_that_no_page_gave_is_refused() {
        let query = PageQuery { limit: None, cursor: Some("??".into()) };
        assert!(query.after::<i32>().is_err());
        let nul = PageQuery { limit: None, cursor: Some(cursor(&"\0")) };
        assert!(nul.after::<String>().is_err());
        assert!(PageQuery { limit: Some(0), cursor: None }.limit().is_err());
        assert!(PageQuery { limit: Some(201), cursor: None }.limit().is_err());
        assert_eq!(PageQuery { limit: Some(200), cursor: None }.limit().unwrap(), 200);
    }
}
