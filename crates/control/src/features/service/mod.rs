//! Checks: which to run, and what their results make of endpoints.
