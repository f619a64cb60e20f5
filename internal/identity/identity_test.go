package identity

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"shoal/internal/content"
	"shoal/internal/wire"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func newStates(t testing.TB) *States {
	t.Helper()
	st, err := OpenStates(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func newSwarm(t testing.TB) *Swarm {
	t.Helper()
	s, err := newStates(t).Create()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// joined makes a machine of its own a member.
func joined(t testing.TB, server *Swarm, role Role) *Swarm {
	t.Helper()
	token, _, err := server.NewToken(role, 0, 0, now)
	if err != nil {
		t.Fatal(err)
	}
	j, err := newStates(t).BeginJoin(Link{Addrs: []string{"h:1"}, Swarm: server.ID(), Token: token}, "machine")
	if err != nil {
		t.Fatal(err)
	}
	reply, err := server.Admit(j.Body, now)
	if err != nil {
		t.Fatal(err)
	}
	s, err := j.Finish(reply)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestALinkIsReadAsItWasWritten(t *testing.T) {
	var l Link
	for i := range l.Swarm {
		l.Swarm[i] = byte(i * 37)
	}
	for i := range l.Token {
		l.Token[i] = byte(i * 91)
	}
	l.Addrs = []string{"10.0.0.5:50001", "[fd00::2]:1", "host.example:2"}
	l.Name, l.ID = "a b~%.img", content.Prefix{ID: content.ID{1, 2, 3}, Bits: 128}
	back, err := ParseLink(l.String())
	if err != nil || back.String() != l.String() || back.Name != l.Name || back.Token != l.Token || back.Swarm != l.Swarm {
		t.Errorf("%s: %+v, %v", l, back, err)
	}
	if short, err := ParseLink("shoal://h/" + strings.Split(l.String(), "/")[3]); err != nil || short.Addrs[0] != "h:50001" || short.ID.Bits != 0 {
		t.Errorf("%+v, %v", short, err)
	}
	for _, bad := range []string{"", "shoal://", "http://h/x", "shoal://h:1", l.String()[:60], "shoal://h:0/" + strings.Split(l.String(), "/")[3], l.String() + "x"} {
		if _, err := ParseLink(bad); !errors.Is(err, ErrLink) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if s := l.Token.String(); strings.Contains(s, l.Token.Secret()) {
		t.Error("a token prints itself")
	}
}

func TestOnlyWhoMayComesIn(t *testing.T) {
	s := newSwarm(t)
	begin := func(token Token) *Joining {
		j, err := newStates(t).BeginJoin(Link{Swarm: s.ID(), Token: token, Addrs: []string{"h:1"}}, "m")
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	once, info, err := s.NewToken(MemberRole, time.Hour, 1, now)
	if err != nil {
		t.Fatal(err)
	}
	a, b := begin(once), begin(once)
	first, err := s.Admit(a.Body, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Admit(b.Body, now); !errors.Is(err, ErrTokenUsed) {
		t.Errorf("a second machine: %v", err)
	}
	// Again with the same key, though the token is used up, and long expired.
	again, err := s.Admit(a.Body, now.Add(1000*time.Hour))
	if err != nil || !bytes.Equal(first, again) {
		t.Errorf("the same key again: %v", err)
	}
	if all, _ := s.Tokens(); len(all) != 1 || all[0].Used != 1 {
		t.Errorf("tokens %+v", all)
	}
	short, _, _ := s.NewToken(MemberRole, time.Hour, 0, now)
	if _, err := s.Admit(begin(short).Body, now.Add(time.Hour+time.Second)); !errors.Is(err, ErrTokenExpired) {
		t.Errorf("expired: %v", err)
	}
	if _, err := s.Admit(begin(Token{1}).Body, now); !errors.Is(err, ErrToken) {
		t.Errorf("unknown: %v", err)
	}
	if err := s.RevokeToken(info.ID); err != nil {
		t.Error(err)
	}
	if _, err := s.Admit(b.Body, now); !errors.Is(err, ErrToken) {
		t.Errorf("revoked: %v", err)
	}
	for _, known := range []error{ErrRequest, ErrToken, ErrTokenExpired, ErrTokenUsed, ErrRemoved} {
		if got := DecodeJoinError(EncodeJoinError(known)); !errors.Is(got, known) {
			t.Errorf("%v became %v", known, got)
		}
	}
	member, err := a.Finish(first)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(member.Self()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Admit(a.Body, now); !errors.Is(err, ErrRemoved) {
		t.Errorf("a removed key: %v", err)
	}
	if _, _, err := member.NewToken(MemberRole, 0, 0, now); !errors.Is(err, ErrNoIssuer) {
		t.Errorf("a member makes a token: %v", err)
	}
}

func TestAnAnswerForAnotherSwarmOrKeyIsRefused(t *testing.T) {
	s, other := newSwarm(t), newSwarm(t)
	token, _, _ := s.NewToken(MemberRole, 0, 0, now)
	link := Link{Swarm: s.ID(), Token: token, Addrs: []string{"h:1"}}
	a, _ := newStates(t).BeginJoin(link, "")
	b, _ := newStates(t).BeginJoin(link, "")
	reply, err := s.Admit(a.Body, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Finish(reply); !errors.Is(err, ErrForeign) {
		t.Errorf("another's certificate: %v", err)
	}
	foreign, _, _ := other.NewToken(MemberRole, 0, 0, now)
	c, _ := newStates(t).BeginJoin(Link{Swarm: s.ID(), Token: foreign, Addrs: []string{"h:1"}}, "")
	reply, err = other.Admit(c.Body, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Finish(reply); !errors.Is(err, ErrForeign) {
		t.Errorf("another swarm's certificate: %v", err)
	}
}

// shake connects two sides, and returns the error of each.
func shake(t *testing.T, client, server *tls.Config) (atClient, atServer error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	done := make(chan error, 1)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			done <- err
			return
		}
		defer conn.Close()
		tc := tls.Server(conn, server)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err = tc.HandshakeContext(ctx); err == nil {
			_, err = tc.Write([]byte{1})
		}
		done <- err
	}()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	tc := tls.Client(conn, client)
	if atClient = tc.Handshake(); atClient == nil {
		_, atClient = tc.Read(make([]byte, 1)) // a client learns of a refusal when it reads
	}
	conn.Close()
	return atClient, <-done
}

func TestWhoMayConnectToWhom(t *testing.T) {
	s, foreign := newSwarm(t), newSwarm(t)
	a, b := joined(t, s, MemberRole), joined(t, s, Reader)
	for name, c := range map[string]struct {
		client, server *tls.Config
		ok             bool
		want           error
	}{
		"a member to a member":           {a.ClientConfig(Peer{ID: b.Self()}), b.ServerConfig(), true, nil},
		"a member to the server":         {a.ClientConfig(Peer{Server: true}), s.ServerConfig(), true, nil},
		"a member that poses as server":  {a.ClientConfig(Peer{Server: true}), b.ServerConfig(), false, ErrRole},
		"another peer than announced":    {a.ClientConfig(Peer{ID: s.Self()}), b.ServerConfig(), false, ErrPeer},
		"a member of another swarm":      {foreign.ClientConfig(Peer{ID: b.Self()}), b.ServerConfig(), false, nil},
		"to a member of another swarm":   {a.ClientConfig(Peer{ID: foreign.Self()}), foreign.ServerConfig(), false, ErrForeign},
		"to join":                        {JoinConfig(s.ID()), s.ServerConfig(), true, nil},
		"to join another swarm's server": {JoinConfig(s.ID()), foreign.ServerConfig(), false, ErrForeign},
		"to join at a member":            {JoinConfig(s.ID()), a.ServerConfig(), false, ErrRole},
		"frames without a certificate":   {&tls.Config{InsecureSkipVerify: true, NextProtos: []string{Protocol}}, b.ServerConfig(), false, nil},
		"an old TLS":                     {&tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}, b.ServerConfig(), false, nil},
	} {
		atClient, atServer := shake(t, c.client, c.server)
		if ok := atClient == nil && atServer == nil; ok != c.ok {
			t.Errorf("%s: client %v, server %v", name, atClient, atServer)
		}
		if c.want != nil && !errors.Is(atClient, c.want) {
			t.Errorf("%s: client %v, want %v", name, atClient, c.want)
		}
	}
	statement, err := s.Remove(a.Self())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := b.Merge([][]byte{statement, statement, {1}}); n != 1 || err != nil {
		t.Errorf("merged %d, %v", n, err)
	}
	if atClient, atServer := shake(t, a.ClientConfig(Peer{ID: b.Self()}), b.ServerConfig()); atClient == nil && atServer == nil {
		t.Error("a removed member is let in")
	}
	if atClient, _ := shake(t, b.ClientConfig(Peer{ID: a.Self()}), a.ServerConfig()); !errors.Is(atClient, ErrRemoved) {
		t.Errorf("a removed member is dialled: %v", atClient)
	}
}

// Dates in certificates are not looked at: a machine whose clock is wrong takes part like any other.
func TestClocksDoNotMatter(t *testing.T) {
	was, wasToo := always, forever
	defer func() { always, forever = was, wasToo }()
	for name, year := range map[string]int{"not valid yet": 2290, "not valid any more": 1971} {
		always, forever = time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(year, 1, 2, 0, 0, 0, 0, time.UTC)
		s := newSwarm(t)
		a, b := joined(t, s, MemberRole), joined(t, s, Reader)
		if a.leaf.NotAfter.Year() != year {
			t.Fatalf("%v", a.leaf.NotAfter)
		}
		for what, c := range map[string][2]*tls.Config{
			"a peer": {a.ClientConfig(Peer{ID: b.Self()}), b.ServerConfig()}, "the server": {a.ClientConfig(Peer{Server: true}), s.ServerConfig()},
			"to join": {JoinConfig(s.ID()), s.ServerConfig()},
		} {
			if atClient, atServer := shake(t, c[0], c[1]); atClient != nil || atServer != nil {
				t.Errorf("%s, %s: %v, %v", name, what, atClient, atServer)
			}
		}
	}
}

func TestARemovalIsWhatTheIssuerSigned(t *testing.T) {
	s, other := newSwarm(t), newSwarm(t)
	a := joined(t, s, MemberRole)
	b, err := s.Remove(a.Self())
	if err != nil {
		t.Fatal(err)
	}
	if !s.IsRemoved(a.Self()) || s.IsRemoved(s.Self()) || len(s.Removals()) != 1 {
		t.Error("the removal is not kept")
	}
	if _, err := other.verifyRemoval(b); !errors.Is(err, ErrRemoval) {
		t.Errorf("in another swarm: %v", err)
	}
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 1
		if who, err := s.verifyRemoval(bad); err == nil && who != a.Self() {
			t.Errorf("byte %d changed: it removes another", i)
		} else if err == nil && i < 65 {
			t.Errorf("byte %d changed: it still counts", i)
		}
		if _, err := s.verifyRemoval(b[:i]); err == nil {
			t.Errorf("cut at %d it counts", i)
		}
	}
	if _, err := a.Remove(s.Self()); !errors.Is(err, ErrNoIssuer) {
		t.Errorf("a member removes: %v", err)
	}
	// Another process of the machine has written it.
	again, err := (&States{filepath.Dir(filepath.Dir(s.Dir()))}).Swarm(s.ID())
	if err != nil || !again.IsRemoved(a.Self()) {
		t.Errorf("after reopening: %v", err)
	}
}

func TestAnOfferIsWhatItsMemberSigned(t *testing.T) {
	s := newSwarm(t)
	a, reader := joined(t, s, MemberRole), joined(t, s, Reader)
	r, err := a.SignRecord("f", content.ID{1}, 5)
	if err != nil {
		t.Fatal(err)
	}
	if by, role, err := s.VerifyRecord(&r); err != nil || by != a.Self() || role != MemberRole {
		t.Errorf("%v %v %v", by, role, err)
	}
	frame := wire.Append(nil, &wire.Offer{Record: r})
	if _, err := wire.Parse(wire.TypeOffer, frame[wire.HeaderSize:]); err != nil {
		t.Errorf("it does not fit the wire: %v", err)
	}
	for name, change := range map[string]func(*wire.Record){
		"name": func(r *wire.Record) { r.Name = "g" }, "id": func(r *wire.Record) { r.ID[0]++ }, "size": func(r *wire.Record) { r.Size++ },
		"kind":  func(r *wire.Record) { r.Kind = wire.KindDirectory },
		"chain": func(r *wire.Record) { r.Chain = r.Chain[:1] }, "garbage": func(r *wire.Record) { r.Chain = [][]byte{{1}, {2}} },
		"signer": func(r *wire.Record) { r.Chain = [][]byte{s.leaf.Raw, s.issuer.Raw} },
	} {
		bad := r
		change(&bad)
		if _, _, err := s.VerifyRecord(&bad); err == nil {
			t.Errorf("another %s is not noticed", name)
		}
	}
	dir, err := a.Sign(wire.Record{Name: "d", ID: content.ID{1}, Size: 5, Kind: wire.KindDirectory})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.VerifyRecord(&dir); err != nil {
		t.Errorf("of a directory: %v", err)
	}
	dir.Kind = wire.KindFile
	if _, _, err := s.VerifyRecord(&dir); err == nil {
		t.Error("a directory that is offered as a file is not noticed")
	}
	if _, err := reader.SignRecord("f", content.ID{1}, 5); !errors.Is(err, ErrRole) {
		t.Errorf("a reader offers: %v", err)
	}
	if _, err := s.Remove(a.Self()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.VerifyRecord(&r); !errors.Is(err, ErrRemoved) {
		t.Errorf("of a removed member: %v", err)
	}
}

func TestTheStateFolderIsItsOwnersAlone(t *testing.T) {
	s := newSwarm(t)
	st := &States{filepath.Dir(filepath.Dir(s.Dir()))}
	for _, path := range []string{st.dir, s.dir, filepath.Join(s.dir, "leaf.key")} {
		fi, err := os.Stat(path)
		if err != nil || fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", path, fi.Mode(), err)
		}
	}
	if err := os.Chmod(filepath.Join(s.dir, "leaf.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Swarm(s.ID()); !errors.Is(err, ErrState) || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others may read: %v", err)
	}
	os.Chmod(filepath.Join(s.dir, "leaf.key"), 0o600)
	os.Chmod(st.dir, 0o755)
	if _, err := OpenStates(st.dir); !errors.Is(err, ErrState) || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("a folder that others may read: %v", err)
	}
}

// A state folder of another user, or a key of theirs in ours, is not used: they could change it under us.
func TestAStateOfAnotherUserIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file to somebody else")
	}
	for _, name := range []string{"leaf.key", "issuer.pem", ""} {
		s := newSwarm(t)
		if err := os.Chown(filepath.Join(s.dir, name), 12345, 12345); err != nil {
			t.Fatal(err)
		}
		if _, err := (&States{filepath.Dir(filepath.Dir(s.Dir()))}).Swarm(s.ID()); !errors.Is(err, ErrState) || !strings.Contains(err.Error(), "another user") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestAFileThatIsCutOffOrNewerIsSaidSo(t *testing.T) {
	for _, name := range []string{"leaf.key", "leaf.pem", "issuer.pem", "authority.pem", "version"} {
		s := newSwarm(t)
		st := &States{filepath.Dir(filepath.Dir(s.Dir()))}
		b, _ := os.ReadFile(filepath.Join(s.dir, name))
		if err := os.WriteFile(filepath.Join(s.dir, name), b[:len(b)/2], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := st.Swarm(s.ID()); err == nil || !strings.Contains(err.Error(), s.dir) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := newSwarm(t)
	if err := s.write("version", []byte("2\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := (&States{filepath.Dir(filepath.Dir(s.Dir()))}).Swarm(s.ID()); !errors.Is(err, ErrStateNewer) {
		t.Error(err)
	}
}

func TestTwoProcessesCannotBothBeTheServer(t *testing.T) {
	s := newSwarm(t)
	lock, err := s.Serving()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Serving(); !errors.Is(err, ErrServing) {
		t.Error(err)
	}
	lock.Close()
	again, err := s.Serving()
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

func TestTheHTTPTokenStaysAndIsCompared(t *testing.T) {
	s := newSwarm(t)
	if s.CheckHTTPToken("") {
		t.Error("the empty token is let in")
	}
	a, err := s.HTTPToken()
	b, _ := s.HTTPToken()
	if err != nil || a != b || !s.CheckHTTPToken(a) || s.CheckHTTPToken(a[:25]+"x") {
		t.Error(a, b, err)
	}
}

func FuzzParseLink(f *testing.F) {
	f.Add("shoal://10.0.0.5:50001,[fd00::2]/ab6wh7m4tc2muxphnxotfavxdbodpm4bnvaxtedlyg/big%20.img~7gyijbt6znm3c7yvlmcfyf2cne")
	f.Fuzz(func(t *testing.T, s string) {
		l, err := ParseLink(s)
		if err != nil {
			return
		}
		if again, err := ParseLink(l.String()); err != nil || again.String() != l.String() {
			t.Fatalf("%q became %q: %v", s, l.String(), err)
		}
	})
}

func FuzzAdmit(f *testing.F) {
	s := newSwarm(f)
	token, _, _ := s.NewToken(MemberRole, 0, 0, now)
	j, err := newStates(f).BeginJoin(Link{Swarm: s.ID(), Token: token}, "m")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(j.Body)
	f.Fuzz(func(t *testing.T, body []byte) {
		if reply, err := s.Admit(body, now); err == nil {
			var r joinReply
			if json.Unmarshal(reply, &r) != nil || len(r.Chain) != 3 {
				t.Fatal("an answer that is none")
			}
		}
	})
}

func FuzzVerifyRemoval(f *testing.F) {
	s := newSwarm(f)
	a := joined(f, s, MemberRole)
	b, err := s.Remove(a.Self())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if who, err := s.verifyRemoval(b); err == nil && who != a.Self() {
			t.Fatalf("it removes %x", who)
		}
	})
}
