//go:build linux

// Package lab is what the macro benchmarks share: the processes under test, what they cost, and the machine.
//
//   - [Process] is a process under test: its events, one JSON object a line, and how it ended.
//   - [CPU], [Memory] and [Busy] read what processes and the machine have used.
//   - [Machine] and [Filesystem] describe where a figure comes from; a figure without them is none.
//
// A benchmark measures the real binary from outside, so the package imports nothing of it. It reads /proc, and therefore
// exists on Linux only.
package lab
