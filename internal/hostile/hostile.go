// Package hostile is peers that lie: for tests and benchmarks alone. Each [Role] is a way to harm a swarm, in our own protocol and in the
// classic one, by what it gives (as who has everything) and by what it takes (as who wants everything). The sockets, the handshake, the
// identity and whatever makes others believe are real; what comes after that is not.
//
//   - [Run] is a hostile peer, until it is told to end.
//   - [Tally] counts what it has done, so that a test can tell an attack that was withstood from one that never was.
//
// It knows the content's manifest, and none of its bytes.
package hostile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"shoal/internal/content"
	"shoal/internal/identity"

	"golang.org/x/sync/errgroup"
)

// Role is a way to be hostile.
type Role string

// The roles. What each gives and takes is in [scripts] and, for the classic protocol, in [oldScripts].
const (
	Poisoner    Role = "poisoner"    // right headers, wrong bytes; takes all it can get, and passes nothing on
	Staller     Role = "staller"     // begins, and stops in the middle; wants, and answers no credit
	SlowReader  Role = "slowreader"  // reads a little a second
	SlowWriter  Role = "slowwriter"  // writes a byte a second
	Flapper     Role = "flapper"     // joins and leaves, in the middle of everything
	Sybil       Role = "sybil"       // many members at once, who promise much and take much
	Hoarder     Role = "hoarder"     // promises all and sends nothing; asks for all and reads nothing
	HaveLiar    Role = "haveliar"    // says that it has all, and serves nothing
	FrameBomber Role = "framebomber" // tiny frames, huge lengths, unknown types
	// Mixed is one of each at once, all of them on one machine.
	Mixed Role = "mixed"
)

// Roles returns all roles but [Mixed].
func Roles() []Role {
	return []Role{Poisoner, Staller, SlowReader, SlowWriter, Flapper, Sybil, Hoarder, HaveLiar, FrameBomber}
}

// Side says which half of its role a hostile peer plays.
type Side int

// The sides.
const (
	Both Side = iota
	Giving
	Taking
)

func (s Side) gives() bool { return s != Taking }
func (s Side) takes() bool { return s != Giving }

func (s Side) String() string { return [...]string{"both", "giving", "taking"}[s] }

// Config says who is hostile, how, and to whom.
type Config struct {
	Role Role
	Side Side
	// Join makes a member of the swarm, another one each time. Nil: it speaks the classic protocol.
	Join func(context.Context) (*identity.Swarm, error)
	// Classic is host:port of the classic server.
	Classic string
	// Host is the address on which it listens; empty: loopback.
	Host string
	// Name is what the content is called; with Join, Manifest says what it is, and Size is not looked at.
	Name     string
	Size     int64
	Manifest *content.Manifest
	Tally    *Tally // nil: nobody counts
}

// Tally is what a hostile peer has done.
type Tally struct {
	Talks atomic.Int64 // connections on which both sides had said who they are
	Ended atomic.Int64 // of those, which the other side has ended
	Asked atomic.Int64 // requests that others made
	Given atomic.Int64 // bytes, wrong ones
	Taken atomic.Int64 // bytes
	Bombs atomic.Int64 // frames and headers that nobody should send
}

// Ready says whether a hostile peer has done what its role is for, on the sides that it plays.
func (t *Tally) Ready(r Role, s Side) bool {
	switch {
	case r == FrameBomber:
		return t.Bombs.Load() > 0
	case s == Giving && r != SlowReader: // who does not read hears of no request
		return t.Asked.Load() > 0
	}
	return t.Talks.Load() > 0
}

const (
	// sybils is how many members a sybil is, and holds how many connections to one peer a hoarder holds.
	sybils = 8
	holds  = 4
	// dialTime bounds an attempt to connect, and the handshake; writeTime a write to who does not read.
	dialTime  = 5 * time.Second
	writeTime = 20 * time.Second
	// calm is the wait between two connections to one peer.
	calm = 200 * time.Millisecond
	// second is the time between the bytes of who is slow.
	second = time.Second
)

// Members returns how many members of the swarm a role is at once.
func Members(r Role) int {
	switch r {
	case Mixed:
		return len(Roles()) - 1 + sybils
	case Sybil:
		return sybils
	}
	return 1
}

// Run is hostile until ctx ends. An error says that it could not even join.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Tally == nil {
		cfg.Tally = &Tally{}
	}
	if cfg.Host == "" {
		cfg.Host = "127.0.0.1"
	}
	roles := []Role{cfg.Role}
	switch {
	case cfg.Role == Mixed:
		roles = Roles()
	case !slices.Contains(Roles(), cfg.Role):
		return fmt.Errorf("there is no role %q", cfg.Role)
	}
	be := oldMember
	if cfg.Join != nil {
		be = member
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, role := range roles {
		one := cfg
		one.Role = role
		for range Members(role) {
			g.Go(func() error {
				if err := be(ctx, one); ctx.Err() == nil {
					return err
				}
				return nil
			})
		}
	}
	return g.Wait()
}

// again does something over and over until ctx ends, with a wait between.
func again(ctx context.Context, wait time.Duration, do func()) {
	for ctx.Err() == nil {
		do()
		rest(ctx, wait)
	}
}

// rest waits; false when ctx has ended.
func rest(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// errEnough ends a connection by our own will.
var errEnough = errors.New("enough")
