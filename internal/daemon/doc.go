// Package daemon is the long-running peer: shares and downloads that survive restarts, in every swarm of this machine.
//
// An [Engine] owns a member of each swarm (node.Member) and a list of transfers: what is shared, and what is being fetched. One
// goroutine, its loop, owns all of that; whoever wants something posts a function into its inbox. What takes long (hashing, fetching,
// writing the state file, looking for a name) runs in goroutines of the engine's, which post what came of it; Run waits for all of
// them. The list is kept in one file (state.go), which is replaced whole and synced before an operation counts as done.
//
// A transfer is in one [State] at any moment. What runs for it is a run: a share has none but while it is hashed, a download has one
// until it is complete and nobody wants the rest of it; then it is shared like any other file.
//
// The package knows nothing of HTTP (internal/api), of the terminal or of systemd (cmd/shoal).
package daemon
