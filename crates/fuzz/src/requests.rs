//! Requests of the engine's API: what each route reads of path, query, headers and body, by the types of its own handler.
//!
//! Flow: an input is a request as text (first line, headers, an empty line, body). The route that it names reads it, and
//! then every route reads its query and its body, so that what is right for one is tried on all.
//! Invariant: each route that reads anything has a seed here that it accepts; a test compares the list with the routes.

use server::inputs::{self, Request};

/// One for each route at least.
pub(crate) static SEEDS: &[&[u8]] = &[
    b"GET /v1.41/events?since=1700000000.5&until=1800000000&filters=%7B%22type%22%3A%5B%22image%22%5D%7D\n\n",
    b"GET /v1.43/system/df?type=image&type=build-cache\n\n",
    b"POST /v1.41/auth\ncontent-type: application/json\n\n{\"username\":\"u\",\"password\":\"p\",\"serveraddress\":\"h:5000\",\"identitytoken\":\"t\"}",
    b"GET /v1.41/distribution/h:5000/a/b:1/json\nx-registry-auth: eyJ1c2VybmFtZSI6InUifQ\n\n",
    b"POST /session\nx-docker-expose-session-uuid: abc\nx-docker-expose-session-grpc-method: /moby.filesync.v1.FileSync/DiffCopy\n\n",
    b"POST /v1.41/build?t=a:1&t=b&remote=&buildargs=%7B%22A%22%3A%22b%22%7D&labels=%7B%7D&cachefrom=%5B%22x%22%5D&ulimits=%5B%7B%22Name%22%3A%22nofile%22%2C%22Soft%22%3A1%2C%22Hard%22%3A2%7D%5D&memory=5&memswap=-1&cpuperiod=1&shmsize=9&extrahosts=h:1.2.3.4&networkmode=host&platform=linux/arm64&version=1\nx-registry-config: eyJoIjp7fX0\n\n",
    b"POST /v1.41/build?version=2&session=s&outputs=%5B%7B%22Type%22%3A%22local%22%2C%22Attrs%22%3A%7B%22dest%22%3A%22x%22%7D%7D%5D\n\n",
    b"POST /v1.41/build/prune?keep-storage=5&all=1&max-used-space=7&filters=%7B%22until%22%3A%5B%2224h%22%5D%7D\n\n",
    b"POST /v1.41/build/cancel?id=x\n\n",
    b"GET /v1.41/containers/json?all=1&limit=3&size=1&filters=%7B%22status%22%3A%5B%22running%22%5D%2C%22label%22%3A%7B%22a%3Db%22%3Atrue%7D%7D\n\n",
    b"POST /v1.43/containers/create?name=n&platform=linux/amd64\ncontent-type: application/json\n\n{\"Image\":\"busybox\",\"Cmd\":\"sh\",\"Env\":[\"A=b\"],\"Healthcheck\":{\"Test\":[\"CMD\",\"x\"],\"Interval\":5},\"HostConfig\":{\"Binds\":[\"/a:/b:ro\"],\"LogConfig\":{\"Type\":\"json-file\",\"Config\":{\"max-size\":\"1m\"}},\"Devices\":[{\"PathOnHost\":\"/dev/null\"}]},\"NetworkingConfig\":{\"EndpointsConfig\":{\"n\":{\"IPAMConfig\":{\"IPv4Address\":\"10.0.0.5\"}}}}}",
    b"POST /v1.41/containers/prune?filters=%7B%22until%22%3A%5B%2224h%22%5D%7D\n\n",
    b"GET /v1.41/containers/a/logs?stdout=1&stderr=1&since=5&until=6.7&tail=10&timestamps=1\n\n",
    b"POST /v1.41/containers/a/resize?h=24&w=80\n\n",
    b"POST /v1.41/containers/a/start?detachKeys=ctrl-p\n\n{}",
    b"POST /v1.41/containers/a/stop?t=5&signal=SIGINT\n\n",
    b"POST /v1.41/containers/a/restart?t=-1\n\n",
    b"POST /v1.41/containers/a/update\ncontent-type: application/json\n\n{\"Memory\":6000000,\"CpuShares\":5,\"RestartPolicy\":{\"Name\":\"on-failure\",\"MaximumRetryCount\":2}}",
    b"POST /v1.41/containers/a/wait?condition=next-exit\n\n",
    b"POST /v1.41/containers/a/exec\ncontent-type: application/json\n\n{\"AttachStdout\":true,\"Cmd\":[\"ls\"],\"Env\":[\"A=b\"],\"Tty\":true,\"ConsoleSize\":[24,80],\"User\":\"1:2\"}",
    b"GET /v1.41/containers/a/stats?stream=0&one-shot=1\n\n",
    b"GET /v1.41/containers/a/attach/ws?stdin=1&logs=1\nconnection: Upgrade\nupgrade: websocket\nsec-websocket-version: 13\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\n\n",
    b"DELETE /v1.41/containers/a?force=1&v=1\n\n",
    b"POST /v1.41/exec/a/start\ncontent-type: application/json\n\n{\"Detach\":false,\"Tty\":true,\"ConsoleSize\":[24,80]}",
    b"POST /v1.41/exec/a/resize?h=1&w=2\n\n",
    b"POST /v1.41/commit?container=c&repo=r&tag=t&comment=x&author=y&changes=ENV%20A%3Db&pause=0\ncontent-type: application/json\n\n{\"Cmd\":[\"sh\"],\"Labels\":{\"a\":\"b\"}}",
    b"GET /v1.41/images/json?all=1&digests=1&filters=%7B%22reference%22%3A%5B%22a*%22%5D%7D\n\n",
    b"GET /v1.41/images/get?names=a:1&names=b\n\n",
    b"GET /v1.41/images/search?term=x&limit=3&filters=%7B%22stars%22%3A%5B%223%22%5D%7D\n\n",
    b"POST /v1.48/images/load?quiet=0&platform=%7B%22os%22%3A%22linux%22%2C%22architecture%22%3A%22arm%22%2C%22variant%22%3A%22v7%22%7D\n\n",
    b"POST /v1.41/images/create?fromImage=h:5000/a&tag=sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n\n",
    b"POST /v1.41/images/create?fromSrc=-&repo=r&tag=t&message=m&changes=CMD%20x&platform=linux/arm/v7\n\n",
    b"POST /v1.41/images/prune?filters=%7B%22dangling%22%3A%7B%22false%22%3Atrue%7D%7D\n\n",
    b"GET /v1.49/images/a/json?platform=linux/amd64\n\n",
    b"GET /v1.48/images/a/history?platform=linux\n\n",
    b"POST /v1.41/images/h:5000/a/push?tag=1&platform=linux/amd64\nx-registry-auth: e30\n\n",
    b"GET /v1.41/networks?filters=%7B%22driver%22%3A%5B%22bridge%22%5D%7D\n\n",
    b"GET /v1.41/networks/?filters=%7B%7D\n\n",
    b"POST /v1.44/networks/create\ncontent-type: application/json\n\n{\"Name\":\"n\",\"Driver\":\"bridge\",\"EnableIPv6\":true,\"IPAM\":{\"Config\":[{\"Subnet\":\"10.0.0.0/8\",\"IPRange\":\"10.1.0.0/16\",\"Gateway\":\"10.0.0.1\",\"AuxiliaryAddresses\":{\"a\":\"10.0.0.2\"}}]},\"Options\":{\"com.docker.network.bridge.name\":\"b\"}}",
    b"POST /v1.41/networks/prune?filters=%7B%22label%22%3A%5B%22a%22%5D%7D\n\n",
    b"POST /v1.41/networks/n/connect\ncontent-type: application/json\n\n{\"Container\":\"c\",\"EndpointConfig\":{\"Aliases\":[\"a\"],\"DriverOpts\":{\"a\":\"b\"},\"GwPriority\":5,\"MacAddress\":\"02:42:ac:11:00:02\"}}",
    b"POST /v1.41/networks/n/disconnect\ncontent-type: application/json\n\n{\"Container\":\"c\",\"Force\":true}",
    b"GET /v1.41/plugins?filters=%7B%22enabled%22%3A%5B%22true%22%5D%7D\n\n",
    b"GET /v1.41/plugins/privileges?remote=a:1\n\n",
    b"POST /v1.41/plugins/pull?remote=a:1&name=p\ncontent-type: application/json\n\n[{\"Name\":\"network\",\"Description\":\"d\",\"Value\":[\"host\"]}]",
    b"POST /v1.41/plugins/a/enable?timeout=5\n\n",
    b"POST /v1.41/plugins/a/set\ncontent-type: application/json\n\n[\"A=b\"]",
    b"POST /v1.41/plugins/a/upgrade?remote=a:2\ncontent-type: application/json\n\n[]",
    b"GET /v1.41/volumes?filters=%7B%22dangling%22%3A%5B%22true%22%5D%7D\n\n",
    b"POST /v1.41/volumes/create\ncontent-type: application/json\n\n{\"Name\":\"v\",\"Driver\":\"local\",\"DriverOpts\":{\"type\":\"tmpfs\",\"device\":\"tmpfs\",\"o\":\"size=1m\"},\"Labels\":{\"a\":\"b\"}}",
    b"POST /v1.41/volumes/prune?filters=%7B%22all%22%3A%5B%221%22%5D%7D\n\n",
    b"POST /v1.41/volumes/v/clone\ncontent-type: application/json\n\n{\"Name\":\"w\",\"Labels\":{\"a\":\"b\"}}",
];

type Parsed<'b> = (String, String, Vec<(String, String)>, &'b [u8]);

/// An input as method, target, headers and body.
fn parse(bytes: &[u8]) -> Parsed<'_> {
    let end = bytes.windows(2).position(|two| two == b"\n\n").unwrap_or(bytes.len());
    let body = bytes.get(end + 2..).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = text.lines();
    let (method, target) = lines.next().unwrap_or_default().split_once(' ').unwrap_or_default();
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    (method.to_owned(), target.to_owned(), headers, body)
}

fn read<T>(bytes: &[u8], by: impl FnOnce(&Request<'_>) -> T) -> T {
    let (method, target, headers, body) = parse(bytes);
    let headers: Vec<(&str, &str)> =
        headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    by(&Request { method: &method, target: &target, headers: &headers, body })
}

pub(crate) fn run(bytes: &[u8]) {
    _ = read(bytes, inputs::read);
    read(bytes, inputs::read_by_all);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_route_accepts_a_seed_of_its_own() {
        let mut seen = BTreeSet::new();
        for seed in SEEDS {
            let text = String::from_utf8_lossy(seed);
            let (route, outcome) = read(seed, inputs::read).unwrap_or_else(|| panic!("{text}"));
            assert!(outcome.is_ok(), "{route:?}: {:?}\n{text}", outcome.err().map(|e| e.chain()));
            seen.insert(route);
        }
        let all: BTreeSet<_> = inputs::routes().collect();
        assert!(all.len() > 40, "{all:?}");
        let without: Vec<_> = all.difference(&seen).collect();
        assert!(without.is_empty(), "these routes have no seed: {without:?}");
    }

    #[test]
    fn wrong_types_are_refused_by_their_own_route() {
        for (request, wrong) in [
            ("POST /networks/create", r#"{"Name":5}"#),
            ("POST /volumes/create", r#"{"Labels":[1]}"#),
            ("POST /exec/x/start", r#"{"Detach":"x"}"#),
            ("POST /plugins/x/set", r#"{"a":1}"#),
        ] {
            let input = format!("{request}\ncontent-type: application/json\n\n{wrong}");
            let (_, outcome) = read(input.as_bytes(), inputs::read).unwrap();
            assert!(outcome.is_err(), "{request} takes {wrong}");
        }
    }
}
