//go:build linux && race

package e2e_test

// raceEnabled says whether the tests, and with them the program under test, were built with the race detector.
const raceEnabled = true
