// Package swarm is discovery, both ends of it: who takes part in a swarm, and where they listen.
//
//   - [Registry] is the membership table: pure, no I/O and no time.
//   - [Server] is the swarm server: it keeps one Registry and the connections around it.
//   - [Client] is a member's connection to a server.
//
// Presence is the open connection. There are no leases and no polling: when a connection ends, its member has left. The
// server carries no file bytes and knows no files. The format and the rules are in docs/CLASSIC.md sections 2 and 3.
package swarm
