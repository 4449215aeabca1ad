//! A run: its events, the state they add up to, and the pure function that decides what comes next.
//!
//! Never reads a clock, draws a random number, or touches a disk or a network.

pub mod event;
