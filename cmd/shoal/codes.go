package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// code is the name of a kind of failure. It is a promise to scripts, as its exit status is: neither changes, and none is used twice.
type code struct {
	name string
	exit int
	what string // what has happened, in a line
	text string // why, and what helps
}

// codes are all that this program ends with, in the order of their exit statuses. docs/ERRORS.md is made of them.
var codes = []code{
	{
		"E-INTERNAL", exitInternal, "something happened that was not foreseen",
		"The program has met a state for which it has no words. Nothing that was verified is lost. Run the same command with -v, and report what it prints together with what `shoal version` says.",
	},
	{
		"E-STATE", exitInternal, "the peer cannot read its list of shares and downloads",
		"The file was changed by hand, or the disk has lost a part of it. Move it away and start the peer again: files, and what was downloaded, are where they were. Share and get them anew; nothing is fetched twice.",
	},
	{
		"E-DISK", exitInternal, "a disk cannot be read or written",
		"The system reports a failure of the disk, or of the machine that a network disk is on. What could not be read is not shared any more; what could not be made to last counts as not written. Look at the system's log, and run the same command again when the disk is well: it goes on where it stopped.",
	},

	{
		"E-OUTPUT", exitInternal, "what was fetched cannot be written to standard output",
		"The program or the disk that takes the output of `shoal get -o - NAME` has failed. Name a path with -o instead.",
	},

	{
		"E-USAGE", exitUsage, "the command line, or a request, makes no sense",
		"A command, a flag or a value is not known, is missing, or does not go with another. The message says which. `shoal COMMAND --help` begins with examples.",
	},
	{
		"E-CONFIG", exitUsage, "the peer's configuration file cannot be used",
		"The message names the file, and what is wrong with it. A peer that runs keeps the settings that it had.",
	},
	{
		"E-LISTEN", exitUsage, "the program cannot listen on that address",
		"Another program uses the port, or the address is none of this machine's, or the port is below 1024 and needs a privilege. Port 0 takes any that is free.",
	},

	{"E-ROOT", exitUsage, "the page and the network may not touch that path", "Over the network the peer shares and writes only below the folders that its configuration names as roots. The command line is not bound by them."},
	{"E-LOGIN", exitUsage, "that link to the page does not work", "It works once, within ten minutes, and is made on the peer's own machine with `shoal web`."},
	{"E-TOKEN", exitUsage, "the request has no valid token", "Programs send the token from the file web-token of the peer's state folder; browsers come with the link that `shoal web` prints. Of many wrong ones, one a second is looked at."},
	{"E-HOST", exitUsage, "the peer is not called that", "Requests must name the peer's own address. Another name may be a page's attempt to get in through a browser."},
	{"E-ORIGIN", exitUsage, "the request comes from another page", "Only the peer's own page may ask it something. Open it with the link that `shoal web` prints."},
	{
		"E-NAME-NOT-FOUND", exitNotFound, "nobody in this swarm shares that name",
		"Who shared it has stopped, or it is called otherwise, or that machine is in another swarm. Names are compared letter by letter. `shoal ls` lists what there is; `shoal get --wait NAME` waits until somebody shares it. " +
			"A classic peer is asked only with --classic.",
	},
	{
		"E-ID-NOT-FOUND", exitNotFound, "nobody in this swarm has the content with that id",
		"Who had it has gone, or the file was changed since: other bytes have another id. `shoal ls` lists the ids that there are.",
	},
	{"E-FILE-NOT-FOUND", exitNotFound, "there is no such file or folder on this machine", "Check the path. A folder that is named with -o must be there."},
	{
		"E-NO-TRANSFER", exitNotFound, "the peer has no share or download of that name",
		"`shoal status` lists what it has. A transfer is named by its file's name, its path, or the begin of an id.",
	},

	{
		"E-TWO-CONTENTS", exitAmbiguous, "one name means several different files",
		"Two members share different bytes under one name, and only you know which are meant. They are never mixed, and nothing is fetched. Take one by its id; `shoal ls` shows the ids, sizes and holders.",
	},
	{"E-TWO-TRANSFERS", exitAmbiguous, "one name means several shares or downloads of the peer", "Name the one that is meant by its own id, which the message lists, or by its path."},

	{
		"E-NO-SERVER", exitUnreachable, "the swarm server cannot be reached",
		"It does not run, or listens on another port, or something on the way drops the packets: the cause tells these apart. Downloads that are under way go on without a server. `shoal doctor` looks closer.",
	},
	{
		"E-NO-PEER", exitUnreachable, "no long-running peer answers on this machine",
		"The command is about what `shoal peer` does, and none runs for this user and state folder. Start it, or point to the right folder with --state.",
	},
	{
		"E-NO-SOURCE", exitUnreachable, "those who have the content cannot be reached",
		"The swarm server knows holders, and no connection to any of them came about within --timeout: they have gone, or a firewall is between. One open side is enough: if this machine can be reached, they come to it. " +
			"`shoal doctor` says whether it can.",
	},
	{"E-BUSY", exitUnreachable, "the peer has as many listeners as it takes", "Too many pages or programs follow its events. Close one, and try again."},
	{
		"E-FIREWALL", exitUnreachable, "others cannot connect to this machine",
		"The swarm server tried to connect to the port on which this machine serves others, and could not. Downloading works, and so does giving over connections that this machine has made; but two machines that are both closed " +
			"cannot exchange anything. Open the port (TCP) in the firewall of this machine, or choose one that is open with --listen.",
	},

	{
		"E-CORRUPT-SOURCE", exitIntegrity, "the only holders have other data than they announced",
		"What came did not have the hash that the content's id implies; those who sent it are set aside for ten minutes, and nobody else has these pieces. Their disk is damaged, or the file was changed. " +
			"`shoal verify FILE` on that machine tells. What is verified here is kept.",
	},
	{
		"E-VERIFY", exitIntegrity, "the file is not what it should be",
		"Its bytes do not have the hash that was asked for. `shoal get --overwrite` repairs a file: what is right is kept, the rest is fetched.",
	},
	{
		"E-SOURCE-CHANGED", exitIntegrity, "the file has changed under the transfer",
		"A file that is shared, or of which a part was fetched, is another one now. Wait until nobody writes to it and share it again; a partial download of the old one is thrown away with --restart.",
	},

	{
		"E-NO-SPACE", exitSpace, "the disk has too little space",
		"The space for the whole file is looked for before anything is fetched. A disk that fills up later only pauses the transfer, which goes on by itself when there is space. Free some, or choose another disk with -o.",
	},
	{"E-QUOTA", exitSpace, "the peer has as many shares and downloads as it takes", "Take some off its list with `shoal remove`; the files stay."},
	{"E-FILE-TOO-BIG", exitSpace, "the file is larger than files may be here", "The file system (FAT: 4 GiB) or a limit of this user (ulimit -f) does not allow such a size. Choose another disk with -o, or raise the limit."},

	{"E-PERM", exitPermission, "this user may not do that", "The message names the file or folder. Choose another place with -o, ask for the permission, or use a state folder of your own with --state."},
	{"E-READONLY", exitPermission, "that file system can only be read", "Choose another place with -o."},
	{"E-LOCKED", exitPermission, "another process uses that", "Two downloads cannot write one file, and one state folder has one peer and one server. The message says who holds it. Wait for it, stop it, or use it."},

	{
		"E-NOT-MEMBER", exitTrust, "this machine is not let in",
		"It is in no swarm, or its link has expired, was revoked or was used up, or it was removed. `shoal link` on the swarm server's machine prints a new link.",
	},
	{
		"E-KEY-MISMATCH", exitTrust, "who answers there is somebody else",
		"The address leads to a machine that cannot prove to be of this swarm. It is the wrong address, or the server was set up anew with new keys, or somebody is in between. Nothing was told to it.",
	},
	{
		"E-DOWNGRADE", exitTrust, "only the unencrypted classic protocol is spoken there",
		"A swarm's links, names and members are for the encrypted protocol, and Shoal never falls back by itself. If that server is the one that is meant, say so with --classic: what comes over it is unencrypted and unverified.",
	},

	{"E-STALLED", exitIncomplete, "nothing came for as long as --timeout allows", "Who has the content is silent, or has gone. What was fetched is kept, and the same command goes on."},
	{"E-TIMEOUT", exitIncomplete, "it took longer than it may", "What was fetched is kept, and the same command goes on."},
	{"E-PAUSED", exitIncomplete, "the download was paused", "Somebody has paused it, here or on the page. `shoal resume` lets it go on."},
	{
		"E-EXISTS", exitExists, "there is a different file already",
		"Nothing is replaced unasked. --overwrite compares it with what is asked for, keeps what is equal, fetches the rest, and leaves the old file in its place until the new one is complete; or choose another path with -o.",
	},

	{"E-PROTOCOL", exitIncompatible, "the other side speaks another protocol", "The address leads to another program or to a version without a common protocol, or what is asked for is not in the protocol at all. Versions on both sides: `shoal version`."},
	{
		"E-NAMES", exitIncompatible, "this disk cannot keep the directory's names apart",
		"It takes some of them for the same, as disks do that do not tell large letters from small ones. Leave some out with --except, choose another disk with -o, or keep it as an archive: get -o - writes one.",
	},
	{"E-STATE-NEWER", exitIncompatible, "a later version of the program wrote that", "Files of a later version are left alone. Use that version, or another folder with --state."},

	{"E-STOPPED", 130, "a signal has ended it", "The exit status is 130 after Ctrl-C (SIGINT) and 143 after SIGTERM. What was fetched is kept, and the same command goes on."},
	{"E-PIPE", exitPipe, "nobody reads standard output any more", "The program that reads it has ended, as head does when it has enough. If it has failed, it says why itself."},
}

// codeNamed returns a code, also without its E- or in small letters; nil: there is none.
func codeNamed(name string) *code {
	name = strings.ToUpper(name)
	for i := range codes {
		if codes[i].name == name || codes[i].name == "E-"+name {
			return &codes[i]
		}
	}
	return nil
}

// newHelp is cobra's help command, which also explains codes.
func newHelp(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND|E-CODE|errors]",
		Short:   "Explain a command, or what an error means",
		Example: "  shoal help get\n  shoal help E-NO-SERVER\n  shoal help errors",
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, begin string) (out []string, _ cobra.ShellCompDirective) {
			for _, c := range cmd.Root().Commands() {
				if c.IsAvailableCommand() && strings.HasPrefix(c.Name(), begin) {
					out = append(out, c.Name())
				}
			}
			for _, c := range codes {
				if strings.HasPrefix(c.name, begin) {
					out = append(out, c.name)
				}
			}
			return out, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && args[0] == "errors" {
				explainCodes(e, codes)
				return nil
			}
			if len(args) == 1 && strings.HasPrefix(strings.ToUpper(args[0]), "E-") {
				c := codeNamed(args[0])
				if c == nil {
					return noCode(args[0])
				}
				explainCodes(e, []code{*c})
				return nil
			}
			meant, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return knownCommand(cmd.Root(), args)
			}
			meant.InitDefaultHelpFlag()
			return meant.Help()
		},
	}
}

func noCode(name string) error {
	f := &failure{Code: "E-USAGE", Exit: exitUsage, What: "there is no error called " + quote(name), Next: "shoal help errors    lists them"}
	var names []string
	for _, c := range codes {
		names = append(names, c.name)
	}
	if like := near(strings.ToUpper(name), names); len(like) > 0 {
		f.Cause, f.Next = "did you mean: "+strings.Join(like, ", "), "shoal help "+like[0]
	}
	return f
}

// explainCodes prints what codes mean: one at length, several in a line each.
func explainCodes(e *env, list []code) {
	for _, c := range list {
		switch {
		case e.json:
			printJSON(e.stdout, struct {
				V    int    `json:"v"`
				T    string `json:"t"`
				Code string `json:"code"`
				Exit int    `json:"exit"`
				What string `json:"what"`
				Text string `json:"text"`
			}{1, "code", c.name, c.exit, c.what, c.text})
		case len(list) == 1:
			fmt.Fprintf(e.stdout, "%s: %s (exit status %d)\n\n%s\n", c.name, c.what, c.exit, wrap(c.text, 100))
		default:
			fmt.Fprintf(e.stdout, "%-18s %3d  %s\n", c.name, c.exit, c.what)
		}
	}
}

// wrap breaks a text into lines of at most so many characters.
func wrap(text string, width int) string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return strings.Join(append(lines, line), "\n")
}

// classes are what exit statuses mean, in words.
var classes = map[int]string{
	exitInternal: "unexpected", exitUsage: "usage", exitNotFound: "not found", exitAmbiguous: "ambiguous", exitUnreachable: "unreachable", exitIntegrity: "integrity",
	exitSpace: "space", exitPermission: "permission", exitTrust: "trust", exitIncomplete: "incomplete, resumable", exitExists: "target exists",
	exitIncompatible: "incompatible", 130: "stopped by a signal", exitPipe: "output not read",
}

// errorsPage writes docs/ERRORS.md.
func errorsPage(w io.Writer) {
	fmt.Fprint(w, `# Errors

A command that fails says so on standard error in up to four lines: what happened, why, what to type next, and what is kept. With
`+"`--json`"+` it is one object on standard output with the same fields (`+"`code`, `what`, `cause`, `next`, `kept`, `exit`, `retryable`"+`).
Codes and exit statuses do not change. An exit status that is not listed is a failure. `+"`shoal help E-CODE`"+` prints what is here.

This page is made from the program's own table (`+"`SHOAL_WRITE_GOLDEN=1 go test ./cmd/shoal -run ErrorsPage`"+`).

| exit status | class | codes |
| --- | --- | --- |
| 0 | success, also "already complete" | |
`)
	for i := 0; i < len(codes); {
		var names []string
		exit := codes[i].exit
		for ; i < len(codes) && codes[i].exit == exit; i++ {
			names = append(names, fmt.Sprintf("[%s](#%s)", codes[i].name, strings.ToLower(codes[i].name)))
		}
		status := fmt.Sprint(exit)
		if exit == 130 {
			status = "130, 143"
		}
		fmt.Fprintf(w, "| %s | %s | %s |\n", status, classes[exit], strings.Join(names, ", "))
	}
	for _, c := range codes {
		fmt.Fprintf(w, "\n## %s\n\n%s. Exit status %d.\n\n%s\n", c.name, strings.ToUpper(c.what[:1])+c.what[1:], c.exit, wrap(c.text, 140))
	}
}

// near returns the words that may have been meant by another, the nearest first: at most three.
func near(word string, words []string) []string {
	type candidate struct {
		word string
		off  int
	}
	var found []candidate
	low := strings.ToLower(word)
	most := max(1, len(low)/4)
	for _, w := range words {
		other := strings.ToLower(w)
		off := most + 1
		if len(low) >= 3 && (strings.HasPrefix(other, low) || strings.HasPrefix(low, other) && len(other) >= 3) {
			off = 1
		} else if len(other) >= len(low)-most && len(other) <= len(low)+most { // there may be a million words
			off = distance(low, other)
		}
		if w != word && off <= most && !slices.Contains(found, candidate{w, off}) {
			found = append(found, candidate{w, off})
		}
	}
	slices.SortStableFunc(found, func(a, b candidate) int { return a.off - b.off })
	var out []string
	for _, c := range found[:min(len(found), 3)] {
		out = append(out, c.word)
	}
	return out
}

// distance is in how many letters two words differ: changed, missing, surplus, or two next to each other that changed places.
// Of long words only the begin is looked at.
func distance(a, b string) int {
	a, b = a[:min(len(a), 64)], b[:min(len(b), 64)]
	var rows [3][65]int
	for j := range len(b) + 1 {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row := &rows[(i+1)%3], &rows[(i-1)%3], &rows[i%3]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return rows[len(a)%3][len(b)]
}
