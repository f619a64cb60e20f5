package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

const (
	// nextAfter is how long an address has to answer before the next one is tried as well.
	nextAfter = 250 * time.Millisecond
	// maxAddresses bounds the addresses that are tried.
	maxAddresses = 32
)

// Attempt is an address that was tried in vain.
type Attempt struct {
	Addr string
	Err  error
}

// AttemptsError is what came of each of several addresses, in the order in which they were tried.
type AttemptsError []Attempt

func (e AttemptsError) Error() string {
	var errs []error
	for _, a := range e {
		errs = append(errs, fmt.Errorf("%s: %w", a.Addr, a.Err))
	}
	return errors.Join(errs...).Error()
}

// Unwrap returns why each was in vain.
func (e AttemptsError) Unwrap() (out []error) {
	for _, a := range e {
		out = append(out, a.Err)
	}
	return out
}

// finalError ends the attempts: another address would say the same.
type finalError struct{ error }

func (e finalError) Unwrap() error { return e.error }

// first connects to the first of some host:port that answers. Each has a moment before the next one is tried as well, and all addresses of a
// name are tried. What answers later is dropped.
func first[T any](ctx context.Context, hosts []string, dial func(ctx context.Context, addr string) (T, error), drop func(T)) (won T, err error) {
	addrs, failed := addresses(ctx, hosts, net.DefaultResolver.LookupNetIP)
	return firstOf(ctx, addrs, failed, dial, drop)
}

// addresses returns the addresses of some host:port, of each name those of both families in turn, and the names that have none.
func addresses(
	ctx context.Context, hosts []string, lookUp func(ctx context.Context, network, host string) ([]netip.Addr, error),
) (out []string, failed AttemptsError) {
	known := make(map[string]bool)
	add := func(addr string) {
		if !known[addr] && len(out) < maxAddresses {
			known[addr] = true
			out = append(out, addr)
		}
	}
	for _, addr := range hosts {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			failed = append(failed, Attempt{addr, err})
			continue
		}
		if _, err := netip.ParseAddr(host); err == nil || host == "" {
			add(addr)
			continue
		}
		looking, cancel := context.WithTimeout(ctx, dialTimeout)
		found, err := lookUp(looking, "ip", host)
		cancel()
		if err != nil {
			failed = append(failed, Attempt{addr, err})
		}
		for _, a := range inTurn(found) {
			add(net.JoinHostPort(a.String(), port))
		}
	}
	return out, failed
}

// inTurn puts the addresses of both families in turn, beginning with that of the first: a family that does not work costs a moment.
func inTurn(addrs []netip.Addr) (out []netip.Addr) {
	var of [2][]netip.Addr // like the first, and unlike it
	for _, a := range addrs {
		a = a.Unmap()
		i := 0
		if a.Is4() != addrs[0].Unmap().Is4() {
			i = 1
		}
		of[i] = append(of[i], a)
	}
	for i := range max(len(of[0]), len(of[1])) {
		for _, family := range of {
			if i < len(family) {
				out = append(out, family[i])
			}
		}
	}
	return out
}

// firstOf is first for addresses that are known, and names that were looked up in vain.
func firstOf[T any](
	ctx context.Context, addrs []string, failed AttemptsError, dial func(ctx context.Context, addr string) (T, error), drop func(T),
) (won T, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		i   int
		got T
		err error
	}
	answers := make(chan answer)
	errs := make([]error, len(addrs))
	next := time.NewTimer(0)
	defer next.Stop()
	begun, open := 0, 0
	var final error
	found := false
	for begun < len(addrs) && !found && final == nil || open > 0 {
		due := next.C
		if begun == len(addrs) || found || final != nil {
			due = nil
		}
		select {
		case <-due:
			i := begun
			begun, open = begun+1, open+1
			go func() { // it is waited for below
				got, err := dial(ctx, addrs[i])
				answers <- answer{i, got, err}
			}()
			next.Reset(nextAfter)
		case a := <-answers:
			open--
			var last finalError
			switch {
			case a.err == nil && found:
				drop(a.got)
			case a.err == nil:
				won, found = a.got, true
				cancel()
			case errors.As(a.err, &last) && !found && final == nil:
				final = finalError{fmt.Errorf("%s: %w", addrs[a.i], last.error)}
				cancel()
			default:
				errs[a.i] = a.err
				next.Reset(0)
			}
		}
	}
	switch {
	case found:
		return won, nil
	case final != nil:
		return won, final
	}
	for i, err := range errs {
		failed = append(failed, Attempt{addrs[i], err})
	}
	if len(failed) == 1 {
		return won, fmt.Errorf("%s: %w", failed[0].Addr, failed[0].Err)
	}
	return won, failed
}
