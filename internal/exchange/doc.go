// Package exchange is the exchange of pieces with all neighbours, for all contents of a peer: the loop that feeds package
// schedule and obeys it.
//
//   - [Exchange] owns the loop. Sessions join it, contents are added to it.
//   - [Content] is what it exchanges: all of it, or a download that grows.
//
// One goroutine, the loop of [Exchange.Run], owns all state; the world speaks to it by events through one inbox, and it
// answers with messages in the sessions' outboxes, which never block. The bytes never pass through it: a session's reader
// hands them to the store, its writer reads them from there. Decisions are package schedule's; connections are made and
// admitted by package node; the rules are in docs/PROTOCOL.md section 7.
package exchange
