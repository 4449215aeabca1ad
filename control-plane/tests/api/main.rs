//! The API, spoken to over HTTP: each test starts the program as a process of its own, on SQLite and on PostgreSQL.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod audit;
mod backup;
mod basics;
mod bodies;
mod check;
mod description;
mod domains;
mod keys;
mod limits;
mod load;
mod mails;
mod matrix;
mod openid;
mod outages;
mod owner;
mod pats;
mod real;
mod retention;
mod runs;
mod schedules;
mod secrets;
mod sentences;
mod server;
mod serving;
mod signin;
mod strangers;
mod stream;
mod strict;
mod tasks;
mod tenancy;
mod traces;
mod unread;
mod webhooks;
mod workflow;
mod workflows;
