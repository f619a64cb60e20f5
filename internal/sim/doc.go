// Package sim simulates swarms: up to a thousand peers in which the very code of package schedule runs, on links of given rates and
// delays, from one seed. It is for tests and for one hidden command.
//
//   - [Config] says who is there: links, when each comes, goes, lies or stalls, and what it wants.
//   - [Run] runs it, and returns a [Result]: when each was done, what the sources sent, what was wasted, and a hash of all that happened.
//   - [Bound] is the time that no scheme can beat.
//   - [Scenarios] are those of docs/SCHEDULING.md.
//
// One heap of events, no goroutine, no clock: the same seed gives the same hash. Links are fluid (network.go): what flows through them
// shares them max-min fairly, as TCP does in the mean; there is no loss and no slow start. Control messages take the delay alone. A peer
// (peer.go) is what package exchange is to the real schedule, without bytes and without TLS.
package sim
