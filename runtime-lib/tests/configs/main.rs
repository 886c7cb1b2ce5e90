//! Configurations as files: the good ones, the bad ones, and what chance makes of the good ones.

mod bad;
mod good;
mod lost;
mod mutated;
