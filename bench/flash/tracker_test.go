//go:build linux

package main

import (
	"bytes"
	"crypto/sha1"
	"net/netip"
	"net/url"
	"testing"
)

func TestTorrent(t *testing.T) {
	got, err := torrent("http://10.77.1.1:6969/announce", "f.img", 4, bytes.NewReader([]byte("abcdef")))
	if err != nil {
		t.Fatal(err)
	}
	one, two := sha1.Sum([]byte("abcd")), sha1.Sum([]byte("ef"))
	want := "d8:announce30:http://10.77.1.1:6969/announce4:infod6:lengthi6e4:name5:f.img12:piece lengthi4e6:pieces40:" +
		string(one[:]) + string(two[:]) + "ee"
	if string(got) != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestTheTrackerTellsPeersOfEachOther(t *testing.T) {
	seeds := 0
	tr := &tracker{peers: make(map[netip.AddrPort]bool), seed: func() { seeds++ }}
	const head = "d8:intervali5e12:min intervali5e5:peers"
	for _, c := range []struct{ from, query, want string }{
		{"10.77.0.1", "port=6881&left=0&event=started", head + "0:e"},
		{"10.77.0.2", "port=258&left=9", head + "6:\x0a\x4d\x00\x01\x1a\xe1e"},
		{"10.77.0.1", "port=6881&left=0", head + "6:\x0a\x4d\x00\x02\x01\x02e"},
		{"10.77.0.2", "port=258&left=9&event=stopped", head + "6:\x0a\x4d\x00\x01\x1a\xe1e"},
		{"10.77.0.1", "port=6881&left=0", head + "0:e"},
	} {
		q, err := url.ParseQuery(c.query)
		if err != nil {
			t.Fatal(err)
		}
		got, err := tr.announce(netip.MustParseAddr(c.from), q)
		if err != nil || string(got) != c.want {
			t.Errorf("%s %s: %q, %v, want %q", c.from, c.query, got, err, c.want)
		}
	}
	if seeds != 3 {
		t.Errorf("seeds were told of %d times", seeds)
	}
	for _, port := range []string{"", "0", "65536", "x"} {
		if got, err := tr.announce(netip.MustParseAddr("10.77.0.3"), url.Values{"port": {port}}); err == nil {
			t.Errorf("port %q: %q", port, got)
		}
	}
}
