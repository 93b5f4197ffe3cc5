package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"aggregator/internal/events"
	"aggregator/internal/postgres"
	"aggregator/internal/verdict"
)

// pushTime is how long a list is watched to see at which end producers push.
const pushTime = time.Second

// Redis looks at a Redis, or at each master of a cluster, and at the sources in it. The
// error is that of a server that does not answer.
func Redis(ctx context.Context, client redis.UniversalClient, o events.Options, sources []*events.Source) (
	[]Finding, error,
) {
	r := &report{server: "Redis"}
	if err := client.Ping(ctx).Err(); err != nil {
		return nil, err
	}
	var nodes []redis.UniversalClient
	if cluster, ok := client.(*redis.ClusterClient); ok {
		var mu sync.Mutex
		err := cluster.ForEachMaster(ctx, func(_ context.Context, node *redis.Client) error {
			mu.Lock()
			defer mu.Unlock()
			nodes = append(nodes, node)
			return nil
		})
		if err != nil {
			return nil, err
		}
	} else {
		nodes = append(nodes, client)
	}
	for _, node := range nodes {
		one := &report{server: r.server}
		if c, ok := node.(*redis.Client); ok && len(nodes) > 1 {
			one.server += " " + c.Options().Addr
		}
		one.redisServer(ctx, node)
		r.findings = append(r.findings, one.findings...)
	}
	for _, source := range sources {
		r.source(ctx, client, o, source)
	}
	if o.Kind == events.KindList {
		r.pushSide(ctx, client, o, sources)
	}
	return r.findings, nil
}

func (r *report) redisServer(ctx context.Context, node redis.UniversalClient) {
	hello := map[string]string{} // HELLO needs no right
	reply, err := node.Do(ctx, "HELLO").Result()
	if err != nil {
		r.notSeen("version", err)
		r.notSeen("role", err)
	} else {
		switch reply := reply.(type) {
		case map[any]any:
			for name, value := range reply {
				hello[fmt.Sprint(name)] = fmt.Sprint(value)
			}
		case []any:
			for i := 0; i+1 < len(reply); i += 2 {
				hello[fmt.Sprint(reply[i])] = fmt.Sprint(reply[i+1])
			}
		}
	}
	if err == nil {
		r.redisVersion(hello["version"])
		r.redisRole(hello["role"])
	}
	r.redisInfo(ctx, node)

	asked := time.Now()
	if now, err := node.Time(ctx).Result(); err != nil {
		r.notSeen("clock", denied(err, "+time"))
	} else {
		r.clock(now, asked, time.Now())
	}
}

func (r *report) redisRole(role string) {
	if role == "master" {
		r.ok("role", "master")
		return
	}
	r.add("role", Problem, "it is a "+role,
		"point redis.url at the master, or at the Sentinels or the cluster (redis.mode): a replica refuses writes")
}

func (r *report) redisVersion(version string) {
	major, _, _ := strings.Cut(version, ".")
	if n, err := strconv.Atoi(major); err != nil || n < 7 {
		r.add("version", Problem, version,
			"use Redis 7.0 or later: XSETID and XGROUP of earlier versions lack what the service needs")
		return
	}
	r.ok("version", "%s", version)
}

// redisInfo looks at what a crash or a full memory would do.
func (r *report) redisInfo(ctx context.Context, node redis.UniversalClient) {
	text, err := node.Info(ctx, "everything").Result()
	if err != nil {
		err = denied(err, "+info")
		r.notSeen("eviction", err)
		r.notSeen("append-only file", err)
		return
	}
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	const keep = "CONFIG SET maxmemory-policy noeviction, and in redis.conf: a full Redis must refuse events, not evict " +
		"those that wait"
	switch policy := info["maxmemory_policy"]; {
	case policy == "noeviction":
		r.ok("eviction", "maxmemory-policy noeviction")
	case strings.HasPrefix(policy, "volatile-"):
		r.add("eviction", Warning, "maxmemory-policy "+policy+": the service's keys do not expire, so they are not evicted",
			keep)
	case info["maxmemory"] == "0":
		r.add("eviction", Warning, "maxmemory-policy "+policy+", but no maxmemory yet", keep)
	default:
		r.add("eviction", Problem, "maxmemory-policy "+policy, keep)
	}
	switch {
	case info["aof_enabled"] != "1":
		r.add("append-only file", Warning,
			"off: a crash loses the events since the latest snapshot, and repeats some of a list",
			"CONFIG SET appendonly yes, and in redis.conf; appendfsync always if none may be lost")
	case info["aof_last_write_status"] != "ok" || info["aof_last_bgrewrite_status"] != "ok":
		r.add("append-only file", Problem, "it cannot be written", "see the log of Redis, and check for a full disk")
	default:
		r.ok("append-only file", "on")
	}
	if info["aof_enabled"] == "1" {
		r.appendOnlyFile(ctx, node)
	}
}

// appendOnlyFile looks at what a power loss does to the file. The users of config/redis.acl may not
// read settings, for passwords are among them.
func (r *report) appendOnlyFile(ctx context.Context, node redis.UniversalClient) {
	setting := func(name, good, found, advice string) {
		values, err := node.ConfigGet(ctx, name).Result()
		switch value := values[name]; {
		case err != nil:
			r.notSeen(name, err)
		case value == "":
			r.add(name, Unknown, "the server does not say", "")
		case value == good:
			r.ok(name, "%s", value)
		default:
			r.add(name, Warning, value+": "+found, advice)
		}
	}
	setting("appendfsync", "always", "a power loss loses the last acknowledged events, of a second or more",
		"CONFIG SET appendfsync always, and in redis.conf, if none may be lost")
	setting("aof-load-truncated", "no",
		"Redis starts with a file that a power loss truncated within a transaction, and the next restart drops what was "+
			"added since",
		"CONFIG SET aof-load-truncated no, and in redis.conf; Redis then does not start with such a file until "+
			"redis-check-aof --fix, answered "+
			"with y, has repaired it. Or BGREWRITEAOF after each start whose log says \"Truncating the AOF\", as run and "+
			"drain do if they may")

	may, err := node.EvalRO(ctx, "return redis.acl_check_cmd('bgrewriteaof')", nil).Bool()
	switch {
	case errors.Is(err, redis.Nil) || err == nil && !may: // false is nil to Redis
		r.add("rewrite", Warning,
			"the user may not BGREWRITEAOF, by which run and drain repair the append-only file after a start",
			"ACL SETUSER its name +bgrewriteaof, as config/redis.acl has it; or aof-load-truncated no")
	case err != nil:
		r.notSeen("rewrite", denied(err, "+eval_ro"))
	default:
		r.ok("rewrite", "the user may BGREWRITEAOF")
	}
}

// denied says which right is missing, if that is what is wrong.
func denied(err error, right string) error {
	if strings.HasPrefix(err.Error(), "NOPERM") {
		return fmt.Errorf("no permission (%s); see config/redis.acl", right)
	}
	return err
}

func (r *report) source(ctx context.Context, client redis.UniversalClient, o events.Options, source *events.Source) {
	check := "source " + source.Name()
	state, err := source.Inspect(ctx)
	switch {
	case redis.HasErrorPrefix(err, "WRONGTYPE"):
		r.add(check, Problem, "the key exists, but is not a stream",
			"is source.kind right? it is "+o.Kind+", and source.key names something else")
	case err != nil && verdict.Of(err) == verdict.Halt: // a right that is missing, also in a script
		r.add(check, Problem, err.Error(), strings.TrimPrefix(verdict.Advice(err), "; "))
	case err != nil:
		r.notSeen(check, err)
	case !state.Exists:
		r.ok(check, "not there yet: nothing was ever pushed to it")
	case state.Bookmark == nil:
		r.ok(check, "entries there: %d; none was processed yet: run or drain then creates consumer group %q", state.Length,
			events.Group)
	default:
		r.ok(check, "entries there: %d, bookmark at %s", state.Length, state.Bookmark.Position)
	}
	if err == nil {
		r.redisRights(ctx, client, o, source)
	}
	if o.Kind == events.KindList {
		r.listType(ctx, client, source)
	} else if err == nil {
		r.idsAhead(ctx, client, check, state.Last)
	}
	r.expiry(ctx, client, source)
}

// listType finds a key of another type where producers are to push to a list.
func (r *report) listType(ctx context.Context, client redis.UniversalClient, source *events.Source) {
	err := client.LLen(ctx, source.Key()).Err()
	if redis.HasErrorPrefix(err, "WRONGTYPE") {
		r.add("source "+source.Name(), Problem, "the key "+source.Key()+" exists, but is not a list",
			"is source.kind right? it is list, and source.key names something else")
	}
}

// idsAhead finds ids of a stream with times that have not come yet.
func (r *report) idsAhead(ctx context.Context, client redis.UniversalClient, check string, last events.Position) {
	now, err := client.Time(ctx).Result()
	if err != nil {
		return // the check of the clock says why
	}
	if last.Ms > now.Add(postgres.ClockSlack).UnixMilli() {
		r.add(check, Warning, fmt.Sprintf("its last id, %s, is ahead of the clock of Redis", last),
			"if that clock was fast, or producers choose the ids: trim.retain and ages of events are wrong by as much, until "+
				"the clock has passed it")
	}
}

// expiry finds a time to live on the keys of a source: when it is over, Redis removes the key with all that
// waits in it.
func (r *report) expiry(ctx context.Context, client redis.UniversalClient, source *events.Source) {
	check := "expiry of " + source.Name()
	keys := []string{source.Key(), source.Name()}
	for _, key := range slices.Compact(keys) {
		left, err := client.PTTL(ctx, key).Result()
		switch {
		case err != nil:
			r.notSeen(check, denied(err, "+pttl"))
			return
		case left > 0: // negative: it does not expire, or is not there
			r.add(check, Problem, fmt.Sprintf("the key %s expires in %s: Redis then removes it with all that waits in it",
				key, left.Round(time.Second)),
				"PERSIST "+key+", and take the EXPIRE out of the program that sends it")
		}
	}
}

// rightsScript asks Redis what the user may do, which needs no right but to run it.
const rightsScript = `local missing = {}
for _, line in ipairs(ARGV) do
  local words = {}
  for word in string.gmatch(line, '%S+') do table.insert(words, word) end
  local known, may = pcall(redis.acl_check_cmd, unpack(words))
  if not known then table.insert(missing, 'unknown ' .. line) elseif not may then table.insert(missing, line) end
end
return missing`

// redisRights asks for each command that the daemon and its scripts send, with arguments as
// far as Redis wants them.
func (r *report) redisRights(
	ctx context.Context, client redis.UniversalClient, o events.Options, source *events.Source,
) {
	check := "rights on " + source.Name()
	stream, list := source.Name(), source.Key()
	lines := []any{
		"eval x 1 " + stream, "evalsha x 1 " + stream, "exists " + stream, "time", "xinfo stream " + stream,
		"xinfo groups " + stream,
		"xpending " + stream + " g", "xrange " + stream + " - +", "xgroup create " + stream + " g 0",
		"xgroup setid " + stream + " g 0",
		"xsetid " + stream + " 1-1", "xtrim " + stream + " minid 0",
		"copy " + stream + " " + source.KeptStream(events.Position{}),
	}
	if o.Kind == events.KindList {
		lines = append(lines, "llen "+list, "lrange "+list+" 0 1", "ltrim "+list+" 0 1", "xlen "+stream,
			"xadd "+stream+" * event x")
	} else {
		lines = append(lines, "xread streams "+stream+" 0")
	}
	missing, err := client.EvalRO(ctx, rightsScript, []string{stream}, lines...).StringSlice()
	if err != nil {
		r.notSeen(check, denied(err, "+eval_ro"))
		return
	}
	var unknown, refused []string
	for _, line := range missing {
		if line, is := strings.CutPrefix(line, "unknown "); is {
			unknown = append(unknown, strings.ToUpper(strings.Fields(line)[0]))
		} else {
			refused = append(refused, strings.ToUpper(strings.Fields(line)[0]))
		}
	}
	if len(unknown) > 0 {
		r.add(check, Problem, "Redis does not know "+strings.Join(slices.Compact(unknown), ", "),
			"it must be 7.0 or later, with no command of config/redis.acl renamed or disabled (rename-command)")
	}
	if len(refused) > 0 {
		r.add(check, Problem, "the user may not use "+strings.Join(slices.Compact(refused), ", "),
			"give it what config/redis.acl has for the source.kind and source.key")
	}
	if len(missing) > 0 {
		return
	}
	r.ok(check, "the user may do all that the service does")
}

// ends are the two ends of a list at one moment.
type ends struct {
	length     int64
	head, tail string
}

func look(ctx context.Context, client redis.UniversalClient, key string) (e ends, err error) {
	var errs [3]error
	var head, tail []string
	e.length, errs[0] = client.LLen(ctx, key).Result()
	head, errs[1] = client.LRange(ctx, key, 0, 0).Result()
	tail, errs[2] = client.LRange(ctx, key, -1, -1).Result()
	e.head, e.tail = strings.Join(head, ""), strings.Join(tail, "")
	for _, err := range errs {
		if err != nil {
			return e, err
		}
	}
	return e, nil
}

// pushSide watches lists for a moment. The elements do not tell when they were pushed, but
// if a list has grown, and one end is as it was and the other is not, it grew there.
func (r *report) pushSide(
	ctx context.Context, client redis.UniversalClient, o events.Options, sources []*events.Source,
) {
	const check = "side of pushing"
	before := make([]ends, len(sources))
	for i, source := range sources {
		var err error
		if before[i], err = look(ctx, client, source.Key()); err != nil {
			r.notSeen(check, denied(err, "+llen +lrange"))
			return
		}
	}
	select {
	case <-ctx.Done():
	case <-time.After(pushTime):
	}
	for i, source := range sources {
		after, err := look(ctx, client, source.Key())
		if err != nil {
			r.notSeen(check, err)
			return
		}
		side := pushedTo(before[i], after)
		switch side {
		case "":
			continue
		case o.PushSide:
			r.ok(check, "%s, as source.push_side says", side)
		default:
			r.add(check, Problem, fmt.Sprintf(
				"producers push to the %s of %s, and source.push_side is %s: the newest events are applied first", side,
				source.Key(), o.PushSide),
				"set source.push_side to "+side)
		}
		return
	}
	r.add(check, Unknown, fmt.Sprintf("not known: no list grew within %s", pushTime), "")
}

// pushedTo is the side at which a list grew; empty if that cannot be told.
func pushedTo(before, after ends) string {
	switch {
	case before.length == 0 || after.length <= before.length:
		return ""
	case before.head != after.head && before.tail == after.tail:
		return events.PushLeft
	case before.head == after.head && before.tail != after.tail:
		return events.PushRight
	}
	return ""
}
