package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	"shoal/internal/classic"
	"shoal/internal/node"
	"shoal/internal/store"
	"shoal/internal/swarm"

	"github.com/dustin/go-humanize"
)

// Exit statuses. They are a promise to scripts: none changes its meaning.
const (
	exitInternal     = 1
	exitUsage        = 2
	exitNotFound     = 3
	exitAmbiguous    = 4
	exitUnreachable  = 5
	exitIntegrity    = 6
	exitSpace        = 7
	exitPermission   = 8
	exitTrust        = 9
	exitIncomplete   = 10
	exitExists       = 11
	exitIncompatible = 12
)

// usageError is a command line that makes no sense.
type usageError struct{ what string }

func (e *usageError) Error() string { return e.what }

// failure is an error as a user is told it: what happened, why, what to do next, and what is kept, each in one line. In Next a command stands
// at its begin, or after two blanks, "; " or ": ", and ends with two blanks, a semicolon or the line: tests run them.
type failure struct {
	V         int    `json:"v"`
	T         string `json:"t"`
	Code      string `json:"code"`
	What      string `json:"what"`
	Cause     string `json:"cause,omitempty"`
	Next      string `json:"next,omitempty"`
	Kept      string `json:"kept,omitempty"`
	Exit      int    `json:"exit"`
	Retryable bool   `json:"retryable"`

	err error
}

func (f *failure) Error() string { return f.What }
func (f *failure) Unwrap() error { return f.err }

// report tells the user of an error, and returns the exit status.
func report(e *env, err error) int {
	f := explain(err)
	f.V, f.T = 1, "error"
	if e.json {
		printJSON(e.stdout, f)
		return f.Exit
	}
	var stopped *signalError
	if errors.As(err, &stopped) {
		fmt.Fprintln(e.stderr, e.screen.hang("", "  ", f.What))
	} else {
		fmt.Fprintln(e.stderr, e.screen.hang("error["+f.Code+"]: ", "  ", f.What))
	}
	for _, line := range []struct{ label, text string }{{"  cause: ", f.Cause}, {"  next:  ", f.Next}, {"  kept:  ", f.Kept}} {
		if line.text != "" {
			fmt.Fprintln(e.stderr, e.screen.hang(line.label, "         ", line.text))
		}
	}
	return f.Exit
}

// explain turns any error into what a user is told. A command that knows more wraps it in a failure itself.
func explain(err error) *failure {
	f := *explainWhat(err)
	var kept *keptError
	if errors.As(err, &kept) {
		f.Kept = kept.note
		if kept.next != "" {
			f.Next = kept.next
		}
	}
	return &f
}

func explainWhat(err error) *failure {
	var known *failure
	if errors.As(err, &known) {
		return known
	}
	for _, kind := range []func(error) *failure{
		explainNear, explainGet, explainPeer, explainUsage, explainTrust, explainVerified, explainStop, explainSwarm, explainContent, explainSpace, explainFiles,
	} {
		if f := kind(err); f != nil {
			return f
		}
	}
	return &failure{
		Code: "E-INTERNAL", Exit: exitInternal, What: oneLine(err.Error()),
		Next: "run it again with -v, and report what it says if it is not clear",
	}
}

func explainUsage(err error) *failure {
	var usage *usageError
	switch {
	case errors.As(err, &usage):
		return &failure{Code: "E-USAGE", Exit: exitUsage, What: oneLine(usage.what), Next: "shoal --help"}
	case strings.HasPrefix(err.Error(), "unknown command"), strings.HasPrefix(err.Error(), "accepts "),
		strings.HasPrefix(err.Error(), "requires "):
		// cobra has no types for these
		return &failure{Code: "E-USAGE", Exit: exitUsage, What: oneLine(err.Error()), Next: "shoal --help"}
	case errors.Is(err, node.ErrEmpty), errors.Is(err, store.ErrNoFile), errors.Is(err, store.ErrShared), errors.Is(err, classic.ErrRange):
		return &failure{
			Code: "E-USAGE", Exit: exitUsage, What: oneLine(err.Error()),
			Next: "name ordinary files that are not empty; shoal share --name gives a file another name",
		}
	case errors.Is(err, store.ErrLinked):
		return &failure{
			Code: "E-USAGE", Exit: exitUsage, What: oneLine(err.Error()),
			Next: "shoal share FILE shares it, if that is meant",
		}
	case errors.Is(err, classic.ErrName):
		return &failure{
			Code: "E-USAGE", Exit: exitUsage, What: oneLine(err.Error()),
			Next: "use a plain file name of at most 254 bytes; shoal share --name gives a file another",
		}
	}
	return nil
}

func explainStop(err error) *failure {
	var stopped *signalError
	switch {
	case errors.As(err, &stopped):
		return &failure{Code: "E-STOPPED", Exit: exitOfSignal(stopped.signal), What: stopped.Error(), Retryable: true}
	case errors.Is(err, node.ErrNoProgress):
		return &failure{
			Code: "E-STALLED", Exit: exitIncomplete, What: oneLine(err.Error()), Retryable: true,
			Cause: "no holder delivers anything", Next: "run the same command again: it goes on where it stopped",
		}
	case errors.Is(err, context.DeadlineExceeded):
		return &failure{
			Code: "E-TIMEOUT", Exit: exitIncomplete, What: oneLine(err.Error()), Retryable: true,
			Next: "run the same command again: it goes on where it stopped",
		}
	}
	return nil
}

func explainSwarm(err error) *failure {
	var server *node.ServerError
	var listen *node.ListenError
	switch {
	case errors.As(err, &server) && errors.Is(err, swarm.ErrClosed):
		return &failure{
			Code: "E-NO-SERVER", Exit: exitUnreachable, Retryable: true,
			What:  "the swarm server " + server.Server + " did not let us in",
			Cause: "it closed the connection at once: it is full, or no classic server, or refuses our address",
			Next:  "shoal doctor --server " + shellQuote(oneOf(server.Server)),
		}
	case errors.As(err, &server):
		return &failure{
			Code: "E-NO-SERVER", Exit: exitUnreachable, Retryable: true,
			What: "cannot reach the swarm server " + server.Server, Cause: netCause(server.Err) + lookedToo(server),
			Next: "shoal doctor --server " + shellQuote(oneOf(server.Server)) + "    looks closer; on that machine  shoal server  starts one; or name another with  --server HOST:PORT",
		}
	case errors.As(err, &listen):
		return &failure{
			Code: "E-LISTEN", Exit: exitUsage, What: "cannot listen on " + listen.Addr, Cause: netCause(listen.Err),
			Next: "choose another address with  --listen ADDR:PORT  (port 0: any free one)",
		}
	}
	return nil
}

// oneOf returns the first of the addresses of a server.
func oneOf(servers string) string {
	first, _, _ := strings.Cut(servers, ",")
	return first
}

// lookedToo says that the local network was searched as well.
func lookedToo(server *node.ServerError) string {
	if server.Looked {
		return "; nobody of the swarm was found on this network either"
	}
	return ""
}

// netCause says why a network operation failed, without Go's words around it.
func netCause(err error) string {
	var dns *net.DNSError
	var several node.AttemptsError
	switch {
	case errors.As(err, &several) && len(several) > 1:
		var lines []string
		for _, a := range several {
			lines = append(lines, a.Addr+": "+netCause(a.Err))
		}
		return strings.Join(lines, "; ")
	case errors.As(err, &dns) && dns.IsNotFound:
		return "no such host: " + dns.Name
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused: the machine answers, nothing listens on that port"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no route to that machine"
	case errors.Is(err, syscall.EADDRINUSE):
		return "the port is in use by another program"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "the address is not one of this machine"
	case errors.Is(err, syscall.EACCES):
		return "permission denied: ports below 1024 need a privilege"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer: the machine is off, or something on the way drops the packets"
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return "no answer: the machine is off, or something on the way drops the packets"
	}
	return oneLine(err.Error())
}

func explainContent(err error) *failure {
	var missing *node.NotFoundError
	var two *node.TwoContentsError
	var digest *node.DigestError
	switch {
	case errors.As(err, &missing):
		return &failure{
			Code: "E-NAME-NOT-FOUND", Exit: exitNotFound, Retryable: true,
			What:  fmt.Sprintf("nobody in this swarm shares %s", quote(missing.Name)),
			Cause: fmt.Sprintf("asked %d peers, of which %d share nothing or could not be reached", missing.Asked, missing.Refused),
			Next:  "shoal get --classic --wait " + shellQuote(missing.Name) + "    waits until somebody does; shoal peers --classic    shows who is there",
		}
	case errors.As(err, &two):
		return explainTwo(two)
	case errors.As(err, &digest):
		return &failure{
			Code: "E-VERIFY", Exit: exitIntegrity,
			What:  fmt.Sprintf("%s is complete, but not the file that was asked for: its %s is %x", digest.Path, digest.Algorithm, digest.Got),
			Cause: fmt.Sprintf("a holder sent other data, or the digest %x is of another file; it was not given its name", digest.Want),
			Next:  "check the digest and run the command again (nothing is fetched twice), or add --restart to fetch all anew",
		}
	case errors.Is(err, store.ErrMismatch):
		return &failure{
			Code: "E-SOURCE-CHANGED", Exit: exitIntegrity, What: "the partial download here is not of the file that is shared now",
			Cause: oneLine(err.Error()), Next: "add --restart to throw it away and begin anew",
		}
	case errors.Is(err, store.ErrNewer):
		return &failure{
			Code: "E-STATE-NEWER", Exit: exitIncompatible, What: oneLine(err.Error()),
			Next: "use the newer shoal, or add --restart to begin anew",
		}
	}
	return nil
}

// explainTwo lists the contents and, as the next command, how to choose the one with the most holders.
func explainTwo(two *node.TwoContentsError) *failure {
	var lines, from []string
	for i, c := range two.Contents {
		var holders []string
		for _, h := range c.Holders {
			holders = append(holders, h.String())
		}
		if i == 0 {
			for _, h := range holders[:min(len(holders), 3)] {
				from = append(from, "--from "+h)
			}
		}
		lines = append(lines, fmt.Sprintf("%d: %d bytes from %s", i+1, c.Size(), cut(strings.Join(holders, ", "), 120)))
	}
	return &failure{
		Code: "E-TWO-CONTENTS", Exit: exitAmbiguous,
		What:  fmt.Sprintf("%s means %d different files in this swarm; nothing was downloaded", quote(two.Name), len(two.Contents)),
		Cause: strings.Join(lines, "; "),
		Next:  "choose by holder:  shoal get --classic " + strings.Join(from, " ") + " " + shellQuote(two.Name),
	}
}

func explainSpace(err error) *failure {
	var space *store.SpaceError
	switch {
	case errors.As(err, &space):
		return &failure{
			Code: "E-NO-SPACE", Exit: exitSpace, Retryable: true,
			What: fmt.Sprintf("%s needs %s more, and its disk has %s free", space.Path, size(space.Need), size(space.Free)),
			Next: "free " + size(space.Need-space.Free) + ", or choose another place with  -o PATH",
		}
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return &failure{
			Code: "E-NO-SPACE", Exit: exitSpace, What: "the disk is full", Cause: oneLine(err.Error()), Retryable: true,
			Next: "free some space and run the same command again: it goes on where it stopped",
		}
	case errors.Is(err, syscall.EFBIG):
		return &failure{
			Code: "E-FILE-TOO-BIG", Exit: exitSpace, What: "the file is larger than this disk or this user may have files",
			Cause: oneLine(err.Error()), Next: "choose another place with  -o PATH, or raise the limit (ulimit -f)",
		}
	}
	return nil
}

func explainFiles(err error) *failure {
	switch {
	case errors.Is(err, store.ErrLocked):
		return &failure{
			Code: "E-LOCKED", Exit: exitPermission, What: oneLine(err.Error()), Retryable: true,
			Cause: "two downloads cannot write one file", Next: "wait for the other, or choose another place with  -o PATH",
		}
	case errors.Is(err, store.ErrExists):
		return &failure{
			Code: "E-EXISTS", Exit: exitExists, What: oneLine(err.Error()),
			Cause: "nothing is replaced unasked", Next: "add --overwrite to replace an ordinary file when the new one is complete, or  -o PATH",
		}
	case errors.Is(err, fs.ErrPermission):
		return &failure{
			Code: "E-PERM", Exit: exitPermission, What: oneLine(err.Error()),
			Cause: fmt.Sprintf("you are user %d here", os.Getuid()), Next: "choose another place with  -o PATH, or ask for the permission",
		}
	case errors.Is(err, syscall.EIO), errors.Is(err, syscall.ESTALE):
		return &failure{
			Code: "E-DISK", Exit: exitInternal, What: oneLine(err.Error()), Cause: "the disk, or the machine that it is on, has failed",
			Next: "look at what the system says of that disk; then run the same command again, or choose another place with  -o PATH",
		}
	case errors.Is(err, syscall.EROFS):
		return &failure{Code: "E-READONLY", Exit: exitPermission, What: oneLine(err.Error()), Next: "choose another place with  -o PATH"}
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return &failure{Code: "E-FILE-NOT-FOUND", Exit: exitNotFound, What: oneLine(err.Error()), Next: "check the path"}
	}
	return nil
}

// oneLine makes text that may come from elsewhere fit for a terminal: no control characters, not too long.
func oneLine(s string) string {
	quoted := fmt.Sprintf("%q", s)
	clean := strings.ReplaceAll(strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`), `\\`, `\`)
	return cut(clean, 400)
}

// quote shows a name that may come from elsewhere.
func quote(name string) string { return cut(fmt.Sprintf("%q", name), 200) }

func cut(s string, n int) string {
	if len(s) > n {
		return s[:n] + "…"
	}
	return s
}

// shellQuote writes a word as a shell reads it.
func shellQuote(s string) string {
	plain := s != "" && strings.IndexFunc(s, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+/:@,=", r)
	}) < 0 && s[0] != '-'
	if plain {
		return s
	}
	if rest, dash := strings.CutPrefix(s, "-"); dash {
		if shellQuote("x"+rest) == "x"+rest {
			return "-- " + s
		}
		return "-- '" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	if strings.ContainsFunc(s, unicode.IsControl) || !utf8.ValidString(s) {
		quoted := strconv.Quote(s)
		return "$'" + strings.ReplaceAll(quoted[1:len(quoted)-1], "'", `\'`) + "'"
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func size(bytes int64) string { return humanize.IBytes(uint64(max(bytes, 0))) }
