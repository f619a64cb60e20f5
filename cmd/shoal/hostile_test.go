package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"shoal/internal/wire"
)

// FuzzWhatOthersSayIsText holds that no text from elsewhere reaches a terminal, a log or a program as more than text: no control
// characters, nothing that turns the direction of what is around it, and no line that it can begin by itself.
func FuzzWhatOthersSayIsText(f *testing.F) {
	for _, s := range []string{
		"a\nb", "\x1b[2J", "\x1b]8;;http://evil.test\x07x\x1b]8;;\x07", "\x1b]52;c;ZXZpbA==\x07", "\u202egnp.exe", "\r", "\x7f", "\u009b31m", "\xff\xfe", "time=0 level=INFO msg=x\n",
		`" err="x`, "\u2028", "\u2066x\u2069", "a\x00b", "error[E-X]: no\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		clean := func(where, out string, lines int) {
			t.Helper()
			if n := strings.Count(out, "\n"); n != lines {
				t.Errorf("%s: %d lines, want %d: %q", where, n, lines, out)
			}
			for _, r := range out {
				// \u2028 and \u2029 are lines to some programs.
				if r != '\n' && (unicode.IsControl(r) || r >= 0x202A && r <= 0x202E || r >= 0x2066 && r <= 0x2069 || r == 0x2028 || r == 0x2029) {
					t.Errorf("%s: %U in %q", where, r, out)
				}
			}
		}
		clean("a name", quote(s), 0)
		for _, terminal := range []bool{false, true} {
			var b bytes.Buffer
			e := &env{stderr: &b, screen: newScreen(&b)}
			e.screen.terminal, e.screen.colour = terminal, false
			e.log(slog.LevelInfo).Info("peer gone", "peer", s, "err", errors.New(s))
			clean(fmt.Sprint("the log, on a terminal: ", terminal), b.String(), 1)
		}
		failed := explain(errors.New(s))
		clean("an error", failed.What+failed.Cause+failed.Next, 0)
		var b bytes.Buffer
		printJSON(&b, wire.Entry{Name: s})
		if !json.Valid(b.Bytes()) || strings.Count(b.String(), "\n") != 1 || !utf8.Valid(b.Bytes()) {
			t.Errorf("a program is told %q", b.String())
		}
		if strings.ContainsFunc(strings.TrimSuffix(b.String(), "\n"), func(r rune) bool { return r < 0x20 }) {
			t.Errorf("a program is told %q", b.String())
		}
	})
}
