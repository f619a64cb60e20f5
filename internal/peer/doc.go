// Package peer is one connection between two peers, both ends of it. It knows what may be said and when; it does not know
// which file, which chunk or which peer is wanted, nor where bytes come from or go to: its callers hand that in.
//
//   - [Serve] answers another peer's questions (docs/CLASSIC.md section 5).
//   - [Holder] is another peer that may have a file: [Holder.Ask] asks it, [Holder.Fetch] takes chunks from it.
//
// A peer's mistake ends its connection and is counted; it is never an error of the program.
package peer
