//! Membership and dissemination as a pure state machine, and its wire format.
