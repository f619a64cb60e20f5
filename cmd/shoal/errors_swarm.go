package main

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"shoal/internal/bundle"
	"shoal/internal/identity"
	"shoal/internal/node"
	"shoal/internal/store"
	"shoal/internal/wire"
)

// explainTrust tells of keys, links and membership.
func explainTrust(err error) *failure {
	trust := func(what, cause, next string) *failure {
		return &failure{Code: "E-NOT-MEMBER", Exit: exitTrust, What: what, Cause: cause, Next: next}
	}
	newLink := "on the machine of the swarm server  shoal link    prints a new link"
	switch {
	case errors.Is(err, identity.ErrLink):
		return &failure{
			Code: "E-USAGE", Exit: exitUsage, What: oneLine(err.Error()),
			Next: "paste the whole line; on the machine of the swarm server  shoal link    prints another",
		}
	case errors.Is(err, identity.ErrTokenExpired), errors.Is(err, identity.ErrTokenUsed), errors.Is(err, identity.ErrToken):
		return trust("the swarm does not let this machine in", oneLine(rootText(err)), newLink)
	case errors.Is(err, identity.ErrRemoved):
		return trust("the swarm does not let this machine in", "it was removed from the swarm", newLink)
	case errors.Is(err, identity.ErrForeign), errors.Is(err, identity.ErrRole), errors.Is(err, identity.ErrPeer):
		return &failure{
			Code: "E-KEY-MISMATCH", Exit: exitTrust, What: "who answers there is not this swarm's server", Cause: oneLine(err.Error()),
			Next: "check the address; if the server was set up anew, its machines must join anew with a new link",
		}
	case errors.Is(err, identity.ErrServing):
		return &failure{Code: "E-LOCKED", Exit: exitPermission, What: oneLine(err.Error()), Next: "shoal status    shows it; stop the other, or use it"}
	case errors.Is(err, identity.ErrNoIssuer):
		return trust("this machine cannot let others in", oneLine(err.Error()), "run it on the machine where the swarm was started")
	case errors.Is(err, identity.ErrStateNewer):
		return &failure{Code: "E-STATE-NEWER", Exit: exitIncompatible, What: oneLine(err.Error()), Next: "use the newer shoal, or another folder with  --state DIR"}
	case errors.Is(err, identity.ErrState):
		return &failure{Code: "E-PERM", Exit: exitPermission, What: oneLine(err.Error()), Next: "mend that, or use another folder with  --state DIR"}
	}
	return nil
}

// rootText is what the innermost known error says.
func rootText(err error) string {
	for _, known := range []error{identity.ErrTokenExpired, identity.ErrTokenUsed, identity.ErrToken} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return err.Error()
}

// explainVerified tells of contents of a swarm.
func explainVerified(err error) *failure {
	var missing *node.NoContentError
	var several *node.AmbiguousError
	var corrupt *node.CorruptError
	var hidden *node.HiddenNameError
	if f := explainDirectory(err); f != nil {
		return f
	}
	switch {
	case errors.As(err, &hidden):
		return &failure{
			Code: "E-USAGE", Exit: exitUsage, What: "the file is called " + quote(hidden.Name) + ", which would be hidden, or be read by some program",
			Cause: "its name was chosen by who shares it", Next: "say where it is to go: the same command with  -o ./" + shellQuote(strings.TrimLeft(hidden.Name, ".")),
		}
	case errors.As(err, &missing) && isID(missing.What):
		return &failure{
			Code: "E-ID-NOT-FOUND", Exit: exitNotFound, Retryable: true, What: "nobody in this swarm has a content whose id begins with " + quote(missing.What),
			Next: "shoal ls    shows what there is; shoal get --wait " + missing.What + "    waits until somebody has it",
		}
	case errors.As(err, &missing) && missing.Asked > 0:
		return &failure{
			Code: "E-NAME-NOT-FOUND", Exit: exitNotFound, Retryable: true, What: "nobody of the swarm on this network shares " + quote(missing.What),
			Cause: fmt.Sprintf("no server answers, and %d peers on this network were asked", missing.Asked),
			Next:  "shoal ls    shows what they have; shoal get --wait " + shellQuote(missing.What) + "    waits until somebody shares it, here or through the server",
		}
	case errors.As(err, &missing):
		return &failure{
			Code: "E-NAME-NOT-FOUND", Exit: exitNotFound, Retryable: true, What: "nobody in this swarm shares " + quote(missing.What),
			Next: "shoal ls    shows what there is; shoal get --wait " + shellQuote(missing.What) + "    waits until somebody does",
		}
	case errors.As(err, &several):
		var lines []string
		for i, e := range several.Entries[:min(len(several.Entries), 10)] {
			by := e.ByName
			if by == "" {
				by = node.PeerName(e.By)
			}
			lines = append(lines, fmt.Sprintf("%d: %s  %s  %s, shared for %s by %s", i+1, e.ID.String()[:16], size(e.Size), count(int(e.Holders), "holder"), age(e.Age), quote(by)))
		}
		return &failure{
			Code: "E-TWO-CONTENTS", Exit: exitAmbiguous,
			What:  fmt.Sprintf("%s means %d different files in this swarm; nothing was downloaded", quote(several.What), len(several.Entries)),
			Cause: strings.Join(lines, "; "), Next: "choose by id:  shoal get " + several.Entries[0].ID.String()[:16],
		}
	case errors.As(err, &corrupt):
		return &failure{
			Code: "E-CORRUPT-SOURCE", Exit: exitIntegrity, Retryable: true,
			What:  fmt.Sprintf("%s: nobody is left who has the right data; %d pieces are missing", quote(corrupt.Name), corrupt.Left),
			Cause: "wrong data came from " + oneLine(strings.Join(corrupt.Who, ", ")),
			Next:  "on that machine  shoal verify FILE    tells what is wrong; here the same command goes on when somebody else has it",
		}
	case errors.Is(err, store.ErrChanged):
		return &failure{
			Code: "E-SOURCE-CHANGED", Exit: exitIntegrity, What: oneLine(err.Error()), Next: "wait until nobody writes to it, and run the command again",
		}
	case errors.Is(err, wire.ErrName):
		return &failure{
			Code: "E-USAGE", Exit: exitUsage, What: oneLine(err.Error()), Next: "shoal share --name gives a file another name",
		}
	}
	return nil
}

// exitPipe is the status of a program whose output nobody reads any more: 128 and the number of SIGPIPE.
const exitPipe = 141

// explainDirectory tells of directories and streams.
func explainDirectory(err error) *failure {
	var kind *node.KindError
	var out *node.OutError
	switch {
	case errors.As(err, &kind) && kind.Kind == wire.KindFile:
		return &failure{Code: "E-USAGE", Exit: exitUsage, What: oneLine(err.Error()), Next: "leave out --only and --except"}
	case errors.As(err, &kind):
		return &failure{Code: "E-STATE-NEWER", Exit: exitIncompatible, What: oneLine(err.Error()), Next: "use a newer shoal"}
	case errors.As(err, &out) && errors.Is(err, syscall.EPIPE):
		return &failure{Code: "E-PIPE", Exit: exitPipe, What: "nobody reads standard output any more", err: err, Next: "look at what the reading program says"}
	case errors.As(err, &out):
		return &failure{Code: "E-OUTPUT", Exit: exitInternal, What: oneLine(err.Error()), Next: "name a path with  -o PATH  instead"}
	case errors.Is(err, bundle.ErrNothing):
		return &failure{
			Code: "E-NAME-NOT-FOUND", Exit: exitNotFound, What: "nothing in the directory fits --only and --except",
			Next: "put patterns in quotes; '*.json' fits at any depth, 'a/*.json' from the top of the directory",
		}
	case errors.Is(err, bundle.ErrNewer):
		return &failure{Code: "E-STATE-NEWER", Exit: exitIncompatible, What: oneLine(err.Error()), Next: "use a newer shoal"}
	case errors.Is(err, bundle.ErrTooMany):
		return &failure{Code: "E-USAGE", Exit: exitUsage, What: oneLine(err.Error()), Next: "share parts of it, or an archive:  tar c DIR | shoal share - --name DIR.tar"}
	case errors.Is(err, bundle.ErrListing):
		return &failure{
			Code: "E-VERIFY", Exit: exitIntegrity, What: oneLine(err.Error()),
			Cause: "who shares it says that it is a directory, and it is none", Next: "ask who shares it; nothing was written",
		}
	case errors.Is(err, store.ErrNames):
		return &failure{
			Code: "E-NAMES", Exit: exitIncompatible, What: oneLine(err.Error()),
			Next: "give a file another name with -o, leave some of a directory out with --except, choose another disk with -o, or keep it as an archive:  shoal get NAME -o - > NAME.tar",
		}
	}
	return nil
}
