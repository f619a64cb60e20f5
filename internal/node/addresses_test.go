package node

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestAllAddressesOfANameAreTriedInTurn(t *testing.T) {
	book := map[string][]string{"two.test": {"2001:db8::1", "2001:db8::2", "10.0.0.1", "::ffff:10.0.0.2"}, "old.test": {"10.0.0.9"}}
	lookUp := func(_ context.Context, network, host string) (out []netip.Addr, err error) {
		if network != "ip" || book[host] == nil {
			return nil, &net.DNSError{Name: host, IsNotFound: true}
		}
		for _, a := range book[host] {
			out = append(out, netip.MustParseAddr(a))
		}
		return out, nil
	}
	got, failed := addresses(t.Context(), []string{"10.0.0.9:1", "two.test:7", "none.test:7", "old.test:1", "[::1]:5", "nonsense"}, lookUp)
	want := []string{"10.0.0.9:1", "[2001:db8::1]:7", "10.0.0.1:7", "[2001:db8::2]:7", "10.0.0.2:7", "[::1]:5"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	var dns *net.DNSError
	if len(failed) != 2 || failed[0].Addr != "none.test:7" || !errors.As(failed, &dns) || dns.Name != "none.test" || failed[1].Addr != "nonsense" {
		t.Errorf("in vain: %v", failed)
	}
}

// trial is a network in fake time: how long each address takes to answer, and with what.
type trial map[string]struct {
	after time.Duration
	err   error
}

// try tries addresses, and returns what came of it, who was dialled and when, and who was dropped.
func (n trial) try(t *testing.T, addrs ...string) (won string, when map[string]time.Duration, dropped []string, err error) {
	t.Helper()
	began := time.Now()
	var mu sync.Mutex
	when = make(map[string]time.Duration)
	won, err = firstOf(t.Context(), addrs, nil, func(ctx context.Context, addr string) (string, error) {
		mu.Lock()
		when[addr] = time.Since(began)
		mu.Unlock()
		select {
		case <-time.After(n[addr].after):
			return addr, n[addr].err
		case <-ctx.Done():
			if n[addr].err == nil && strings.HasPrefix(addr, "deaf") {
				return addr, nil
			}
			return "", ctx.Err()
		}
	}, func(s string) { dropped = append(dropped, s) })
	return won, when, dropped, err
}

// One that does not answer costs a moment; one that refuses, nothing; and of those in vain each is named with its reason.
func TestAnAddressThatDoesNotAnswerCostsAMoment(t *testing.T) {
	const s = time.Second
	refused := syscall.ECONNREFUSED
	for name, c := range map[string]struct {
		net     trial
		addrs   []string
		won     string
		err     string
		when    map[string]time.Duration
		dropped []string
	}{
		"the first": {trial{"a": {after: s / 10}}, []string{"a", "b"}, "a", "", map[string]time.Duration{"a": 0}, nil},
		"the second, when the first is silent": {
			trial{"a": {after: time.Hour}, "b": {after: s}}, []string{"a", "b"}, "b", "", map[string]time.Duration{"a": 0, "b": nextAfter}, nil,
		},
		"at once, when the first refuses": {
			trial{"a": {after: s / 10, err: refused}, "b": {after: s}}, []string{"a", "b"}, "b", "", map[string]time.Duration{"a": 0, "b": s / 10}, nil,
		},
		"the quicker, and the other is dropped": {
			trial{"deaf": {after: 3 * s}, "b": {after: s}}, []string{"deaf", "b"}, "b", "", map[string]time.Duration{"deaf": 0, "b": nextAfter}, []string{"deaf"},
		},
		"none": {
			trial{"a": {err: refused}, "b": {after: s, err: syscall.EHOSTUNREACH}},
			[]string{"a", "b"},
			"",
			"a: connection refused\nb: no route to host",
			map[string]time.Duration{"a": 0, "b": 0},
			nil,
		},
		"only one, in vain": {trial{"a": {err: refused}}, []string{"a"}, "", "a: connection refused", map[string]time.Duration{"a": 0}, nil},
		"a last word":       {trial{"a": {err: finalError{errors.New("no")}}}, []string{"a", "b"}, "", "a: no", map[string]time.Duration{"a": 0}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				won, when, dropped, err := c.net.try(t, c.addrs...)
				said := ""
				if err != nil {
					said = err.Error()
				}
				if won != c.won || said != c.err || !reflect.DeepEqual(when, c.when) || !slices.Equal(dropped, c.dropped) {
					t.Errorf("%q won, %q; dialled %v, dropped %v", won, said, when, dropped)
				}
				var several AttemptsError
				if c.err != "" && errors.As(err, &several) != (len(c.when) > 1) {
					t.Errorf("%d attempts are told", len(several))
				}
			})
		})
	}
}

// A member finds its server though the first address of it is one that takes connections and says nothing.
func TestAServerIsFoundBehindASilentAddress(t *testing.T) {
	l := newLab(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	sw := l.machine("member")
	m := NewMember(MemberConfig{Swarm: sw, Listen: "127.0.0.1:0", Servers: []string{silent.Addr().String(), l.addr}})
	defer m.Close()
	if err := m.Run(t.Context(), func(context.Context) error { return nil }); err != nil {
		t.Error(err)
	}
}
