use super::*;
use crate::{
    copy,
    host::{CacheKey, Container, Exec, Layer, View, Workspace},
};
use base::Digest;
use expect_test::{Expect, expect};
use image::ImageConfig;
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex as StdMutex,
        atomic::{AtomicUsize, Ordering},
    },
};

/// A host over plain folders: an image is a folder, a layer the folder after the step.
struct Fake {
    dir: tempfile::TempDir,
    next: AtomicUsize,
    state: Arc<StdMutex<State>>,
}

#[derive(Default)]
struct State {
    images: BTreeMap<String, Stored>,
    tags: BTreeMap<String, ImageId>,
    layers: BTreeMap<String, PathBuf>,
    cache: Vec<(CacheKey, ImageId)>,
    ran: Vec<String>,
    containers: usize,
}

#[derive(Clone)]
struct Stored {
    image: Image,
    parent: Option<ImageId>,
    tree: PathBuf,
}

impl Fake {
    fn new() -> Arc<Self> {
        let dir = tempfile::tempdir().unwrap();
        let next = AtomicUsize::new(0);
        let fake = Self { dir, next, state: Arc::default() };
        fake.base("busybox", |_| ());
        Arc::new(fake)
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join(self.next.fetch_add(1, Ordering::SeqCst).to_string())
    }

    fn base(&self, name: &str, edit: impl FnOnce(&mut ImageConfig)) -> ImageId {
        let tree = self.path();
        fs::create_dir_all(tree.join("etc")).unwrap();
        fs::write(tree.join("etc/passwd"), "root:x:0:0::/:\n").unwrap();
        fs::write(tree.join("etc/group"), "root:x:0:\n").unwrap();
        let mut config = ImageConfig::scratch(&Platform::host());
        config.config.cmd = Some(vec!["sh".into()]);
        let made = History { created_by: format!("import {name}"), ..History::default() };
        config.push(made, Some(Digest::sha256(name.as_bytes())));
        edit(&mut config);
        let id = config.clone().seal().id().clone();
        let image = Image { id: Some(id.clone()), config };
        let mut state = self.state.lock().unwrap();
        state.tags.insert(name.into(), id.clone());
        state.images.insert(id.to_string(), Stored { image, parent: None, tree });
        id
    }

    fn tree(&self, image: Option<&ImageId>) -> Option<PathBuf> {
        let state = self.state.lock().unwrap();
        image.map(|id| state.images[id.as_str()].tree.clone())
    }

    fn tree_over(&self, image: Option<&ImageId>) -> Tree {
        let path = self.path();
        match self.tree(image) {
            Some(below) => {
                assert!(
                    Command::new("cp").arg("-a").arg(below).arg(&path).status().unwrap().success()
                );
            }
            None => fs::create_dir_all(&path).unwrap(),
        }
        let before = hash(&path);
        Tree { root: Root::open(&path).unwrap(), path, before, state: self.state.clone() }
    }
}

fn hash(path: &Path) -> String {
    let root = Arc::new(Root::open(path).unwrap());
    let found = copy::gather(&root, copy::Tree::Image, ".", copy::Archive::Keep).unwrap();
    found[0].hash.clone()
}

struct Tree {
    root: Root,
    path: PathBuf,
    before: String,
    state: Arc<StdMutex<State>>,
}

impl Tree {
    fn layer(&self) -> Option<Layer> {
        let after = hash(&self.path);
        if after == self.before {
            return None;
        }
        let id = Digest::sha256(format!("{}{after}", self.before).as_bytes());
        self.state.lock().unwrap().layers.insert(id.to_string(), self.path.clone());
        Some(Layer { diff_id: id.clone(), id, size: 0 })
    }
}

impl Workspace for Tree {
    fn root(&self) -> &Root {
        &self.root
    }

    async fn commit(self) -> Result<Option<Layer>> {
        Ok(self.layer())
    }
}

struct Ran {
    id: String,
    tree: Tree,
    exec: Exec,
}

impl Container for Ran {
    fn id(&self) -> &str {
        &self.id
    }

    fn warnings(&self) -> &[String] {
        &[]
    }

    /// `exit N`, `write FILE TEXT`, `wait STAGE`, anything else is printed with its environment.
    async fn run(&mut self, output: &Output) -> Result<i64> {
        let command = self.exec.config.cmd.clone().unwrap_or_default().pop().unwrap_or_default();
        self.tree.state.lock().unwrap().ran.push(command.clone());
        let words: Vec<&str> = command.split_whitespace().collect();
        match words[..] {
            ["exit", code] => return Ok(code.parse().unwrap()),
            ["write", file, text] => fs::write(self.tree.path.join(file), text).unwrap(),
            ["env"] => output.text(format!("{:?}\n", self.exec.config.env)).await,
            _ => {
                output.text(format!("{command}\n")).await;
                output.send(Message::Stderr("warned\n".into())).await;
            }
        }
        Ok(0)
    }

    async fn commit(&mut self) -> Result<Option<Layer>> {
        Ok(self.tree.layer())
    }

    async fn remove(self) -> Result<()> {
        self.tree.state.lock().unwrap().containers -= 1;
        Ok(())
    }

    fn keep(self) {}
}

impl Host for Fake {
    type Workspace = Tree;
    type Container = Ran;

    async fn image(&self, name: &str, _: &Lookup, _: &Output) -> Result<Image> {
        let state = self.state.lock().unwrap();
        let id = state.tags.get(name).map_or(name, |id| id.as_str());
        let missing = || {
            Error::not_found(format!(
                "pull access denied for {name}, repository does not exist or may require 'docker login'"
            ))
        };
        state.images.get(id).map(|s| s.image.clone()).ok_or_else(missing)
    }

    async fn cached(&self, key: &CacheKey) -> Result<Option<Image>> {
        let state = self.state.lock().unwrap();
        let found = state.cache.iter().rev().find(|(k, _)| k == key);
        Ok(found.map(|(_, id)| state.images[id.as_str()].image.clone()))
    }

    async fn is_ancestor(&self, image: &ImageId, descendant: &ImageId) -> Result<bool> {
        let state = self.state.lock().unwrap();
        let mut at = Some(descendant.clone());
        while let Some(id) = at {
            if id == *image {
                return Ok(true);
            }
            at = state.images.get(id.as_str()).and_then(|s| s.parent.clone());
        }
        Ok(false)
    }

    async fn workspace(&self, image: Option<&ImageId>) -> Result<Tree> {
        Ok(self.tree_over(image))
    }

    async fn view(&self, image: &ImageId) -> Result<View> {
        let path = self.tree(Some(image)).unwrap();
        Ok(View { root: Root::open(&path).unwrap(), guard: Box::new(()) })
    }

    async fn commit(&self, commit: Commit) -> Result<Image> {
        let mut tree = self.tree(commit.parent.as_ref()).unwrap_or_else(|| {
            let path = self.path();
            fs::create_dir_all(&path).unwrap();
            path
        });
        if let Some(source) = &commit.layers_of {
            tree = self.tree(Some(source)).unwrap();
        }
        let sealed = commit.config.seal();
        let image = Image { id: Some(sealed.id().clone()), config: sealed.config().clone() };
        let mut state = self.state.lock().unwrap();
        if let Some(layer) = &commit.layer {
            tree = state.layers[layer.id.as_str()].clone();
        }
        if let Some(key) = commit.key {
            state.cache.push((key, sealed.id().clone()));
        }
        let stored = Stored { image: image.clone(), parent: commit.parent, tree };
        state.images.insert(sealed.id().to_string(), stored);
        Ok(image)
    }

    async fn container(&self, exec: Exec) -> Result<Ran> {
        let tree = self.tree_over(exec.image.as_ref());
        self.state.lock().unwrap().containers += 1;
        Ok(Ran { id: passing(), tree, exec })
    }

    fn unpack(&self, archive: File, into: &Root) -> Result<()> {
        use std::os::fd::{AsFd as _, AsRawFd as _};
        let path = format!("/proc/self/fd/{}", into.as_fd().as_raw_fd());
        tar::Archive::new(archive).unpack(path).map_err(|e| Error::io("unpack", e))
    }

    fn scratch(&self) -> PathBuf {
        self.dir.path().join("scratch")
    }
}

fn passing() -> String {
    base::ContainerId::random().to_string()
}

struct Case {
    host: Arc<Fake>,
    context: tempfile::TempDir,
    options: Options,
}

impl Case {
    fn new() -> Self {
        let options = Options { rm: true, dockerfile: "Dockerfile".into(), ..Options::default() };
        Self { host: Fake::new(), context: tempfile::tempdir().unwrap(), options }
    }

    fn file(&self, path: &str, content: &str) {
        let path = self.context.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Builds and gives what a client reads, ids masked, and the image.
    fn run(&self, dockerfile: &str) -> (String, Option<Image>) {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        runtime.block_on(async {
            let (sender, mut receiver) = mpsc::channel(16);
            let reader = tokio::task::spawn(async move {
                let mut messages = Vec::new();
                while let Some(message) = receiver.recv().await {
                    messages.push(message);
                }
                messages
            });
            let output = Output::new(sender);
            let context = Some(Arc::new(Root::open(self.context.path()).unwrap()));
            let built = build(
                self.host.clone(),
                dockerfile.as_bytes(),
                context,
                self.options.clone(),
                &output,
            )
            .await;
            let image = match built {
                Ok(built) => {
                    announce(&output, built.image.id.as_ref().unwrap()).await;
                    Some(built.image)
                }
                Err(failure) => {
                    let code = failure.code.map_or(String::new(), |c| format!("{c}: "));
                    output.text(format!("error: {code}{failure}\n")).await;
                    None
                }
            };
            drop(output);
            let mut text = String::new();
            for message in reader.await.unwrap() {
                match message {
                    Message::Stdout(out) => text.push_str(&out),
                    Message::Stderr(err) => text.push_str(&format!("2>{err}")),
                    Message::Aux(_) => text.push_str("{aux}\n"),
                    Message::Progress(_) => {}
                }
            }
            (mask(&text), image)
        })
    }

    #[track_caller]
    fn check(&self, dockerfile: &str, want: &Expect) -> Option<Image> {
        let (text, image) = self.run(dockerfile);
        want.assert_eq(&text);
        image
    }

    fn hits(&self, dockerfile: &str) -> usize {
        let (text, image) = self.run(dockerfile);
        assert!(image.is_some(), "{text}");
        text.matches("Using cache").count()
    }

    fn created_by(image: &Image) -> Vec<String> {
        let shown = |h: &History| {
            format!("{}{}", h.created_by, if h.empty_layer { " (empty)" } else { "" })
        };
        image.config.history.iter().map(shown).collect()
    }
}

/// Ids as `<id>`, hashes as `<hash>`.
fn mask(text: &str) -> String {
    let digits =
        regex::Regex::new("[0-9a-f]{64}").unwrap().replace_all(text, "<hash>").into_owned();
    regex::Regex::new("\\b[0-9a-f]{12}\\b").unwrap().replace_all(&digits, "<id>").into_owned()
}

#[test]
fn output_is_what_clients_parse() {
    let case = Case::new();
    case.file("a.txt", "a");
    let image = case
        .check(
            "FROM busybox\nENV A=1\nRUN write x y\nRUN say hello\nCOPY a.txt /d/\nWORKDIR /w\nWORKDIR /w\nCMD [\"x\"]\n",
            &expect![[r#"
                Step 1/8 : FROM busybox
                 ---> <id>
                Step 2/8 : ENV A=1
                 ---> Running in <id>
                 ---> Removed intermediate container <id>
                 ---> <id>
                Step 3/8 : RUN write x y
                 ---> Running in <id>
                 ---> Removed intermediate container <id>
                 ---> <id>
                Step 4/8 : RUN say hello
                 ---> Running in <id>
                say hello
                2>warned
                 ---> Removed intermediate container <id>
                 ---> <id>
                Step 5/8 : COPY a.txt /d/
                 ---> <id>
                Step 6/8 : WORKDIR /w
                 ---> Running in <id>
                 ---> Removed intermediate container <id>
                 ---> <id>
                Step 7/8 : WORKDIR /w
                 ---> Running in <id>
                 ---> Removed intermediate container <id>
                 ---> <id>
                Step 8/8 : CMD ["x"]
                 ---> Running in <id>
                 ---> Removed intermediate container <id>
                 ---> <id>
                {aux}
                Successfully built <id>
            "#]],
        )
        .unwrap();
    expect![[r#"
        import busybox
        /bin/sh -c #(nop)  ENV A=1 (empty)
        /bin/sh -c write x y
        /bin/sh -c say hello (empty)
        /bin/sh -c #(nop) COPY file:<hash> in /d/ 
        /bin/sh -c #(nop) WORKDIR /w
        /bin/sh -c #(nop) WORKDIR /w (empty)
        /bin/sh -c #(nop)  CMD ["x"] (empty)"#]]
    .assert_eq(&mask(&Case::created_by(&image).join("\n")));
    assert_eq!(image.config.rootfs.diff_ids.len(), 4);
    assert_eq!(case.host.state.lock().unwrap().containers, 0);
    let parent = image.config.config.rest["Image"].as_str().unwrap();
    assert!(case.host.state.lock().unwrap().images.contains_key(parent));
}

#[test]
fn the_cache_hits_exactly_when_nothing_changed() {
    let case = Case::new();
    case.file("a", "1");
    let file = "FROM busybox\nARG V=1\nRUN one\nCOPY a /a\nRUN two $V\nENV X=$V\n";
    assert_eq!(case.hits(file), 0);
    assert_eq!(case.hits(file), 5);
    case.file("a", "2");
    assert_eq!(case.hits(file), 2);
    case.file("a", "1");
    assert_eq!(case.hits(file), 5);
    // An argument counts from the first RUN after its declaration.
    let mut other = Case { host: case.host.clone(), context: case.context, options: case.options };
    other.options.args.insert("V".into(), Some("2".into()));
    assert_eq!(other.hits(file), 1);
    other.options.args.clear();
    other.options.no_cache = true;
    assert_eq!(other.hits(file), 0);
    other.options.no_cache = false;
    assert_eq!(other.hits("FROM busybox\nARG V=1\nRUN one\nRUN other\nCOPY a /a\n"), 2);
}

#[test]
fn nothing_is_looked_for_after_a_miss_in_a_stage() {
    let case = Case::new();
    assert_eq!(case.hits("FROM busybox\nENV A=1\nENV B=1\nENV C=1\n"), 0);
    assert_eq!(case.hits("FROM busybox\nENV A=1\nENV B=2\nENV B=1\nENV C=1\n"), 1);
    assert_eq!(case.hits("FROM busybox\nENV Z=1\nFROM busybox\nENV A=1\n"), 1);
}

#[test]
fn stages_are_built_as_needed_and_shown_in_order() {
    let case = Case::new();
    case.check(
        "ARG B=busybox\nFROM $B AS one\nRUN write f 1\nFROM busybox AS unused\nRUN exit 9\nFROM busybox AS two\nRUN write g 2\nFROM one\nCOPY --from=two /g /h\nCOPY --from=0 /f /i\n",
        &expect![[r#"
            Step 1/8 : ARG B=busybox
            Step 2/8 : FROM $B AS one
             ---> <id>
            Step 3/8 : RUN write f 1
             ---> Running in <id>
             ---> Removed intermediate container <id>
             ---> <id>
            {aux}
            Step 4/8 : FROM busybox AS two
             ---> <id>
            Step 5/8 : RUN write g 2
             ---> Running in <id>
             ---> Removed intermediate container <id>
             ---> <id>
            {aux}
            Step 6/8 : FROM one
             ---> <id>
            Step 7/8 : COPY --from=two /g /h
             ---> <id>
            Step 8/8 : COPY --from=0 /f /i
             ---> <id>
            {aux}
            Successfully built <id>
        "#]],
    );
    assert!(!case.host.state.lock().unwrap().ran.contains(&"exit 9".to_owned()));
}

#[test]
fn failures_tell_code_place_and_cause() {
    let case = Case::new();
    case.file("a", "1");
    let mut all = String::new();
    for file in [
        "FROM busybox\nRUN exit 7\n",
        "FROM busybox\nRUN [\"exit\", \"exit 3\"]\n",
        "FROM nope\n",
        "FROM $X\n",
        "FROM busybox:${X\n",
        "FROM --platform=a/b/c/d busybox\n",
        "FROM scratch\n",
        "FROM scratch\nRUN x\n",
        "FROM busybox\nCOPY nope /x\n",
        "FROM busybox\nCOPY n* /x\n",
        "FROM busybox\nCOPY a a /x\n",
        "FROM busybox\nCOPY ../a /x\n",
        "FROM busybox\nCOPY --from=nope a /x\n",
        "FROM busybox\nCOPY --from=0 a /x\n",
        "FROM busybox\nCOPY --from=3 a /x\n",
        "FROM busybox\nCOPY --from=busybox nope /x\n",
        "FROM busybox\nCOPY --chown=who a /x\n",
        "FROM busybox\nCOPY --chmod=9 a /x\n",
        "FROM busybox AS a\nFROM busybox AS A\n",
        "FROM later AS one\nFROM busybox AS later\nCOPY --from=one /a /a\n",
        "FROM busybox\nWORKDIR /etc/passwd\n",
        "FROM busybox\nENV A=${B?no}\n",
    ] {
        let (text, image) = case.run(file);
        assert!(image.is_none(), "{text}");
        let tail: Vec<&str> =
            text.lines().filter(|l| !l.starts_with("Step") && !l.starts_with(" --->")).collect();
        all.push_str(&format!("{}\n", tail.join("\n")));
    }
    expect![[r#"
        Dockerfile:2: RUN exit 7
        error: 7: The command '/bin/sh -c exit 7' returned a non-zero code: 7
        Dockerfile:2: RUN ["exit", "exit 3"]
        error: 3: The command 'exit exit 3' returned a non-zero code: 3
        Dockerfile:1: FROM nope
        error: pull access denied for nope, repository does not exist or may require 'docker login'
        Dockerfile:1: FROM $X
        error: base name ($X) should not be blank
        Dockerfile:1: FROM busybox:${X
        error: failed to process "busybox:${X": syntax error: missing '}'
        Dockerfile:1: FROM --platform=a/b/c/d busybox
        error: failed to parse platform a/b/c/d: "a/b/c/d" is an invalid component of "a/b/c/d": platform specifier component must match "^[A-Za-z0-9_-]+$"
        error: No image was generated. Is your Dockerfile empty?
        Dockerfile:2: RUN x
        error: there is nothing to run in an empty image: exec: "/bin/sh": no such file or directory
        Dockerfile:2: COPY nope /x
        error: COPY failed: file not found in build context or excluded by .dockerignore: stat nope: file does not exist
        Dockerfile:2: COPY n* /x
        error: COPY failed: no source files were specified
        Dockerfile:2: COPY a a /x
        error: When using COPY with more than one source file, the destination must be a directory and end with a /
        Dockerfile:2: COPY ../a /x
        error: COPY failed: forbidden path outside the build context: ../a ()
        Dockerfile:2: COPY --from=nope a /x
        error: invalid from flag value nope: pull access denied for nope, repository does not exist or may require 'docker login'
        Dockerfile:2: COPY --from=0 a /x
        error: invalid from flag value 0: refers to current build stage
        Dockerfile:2: COPY --from=3 a /x
        error: invalid from flag value 3: index out of bounds
        Dockerfile:2: COPY --from=busybox nope /x
        error: COPY failed: stat nope: file does not exist
        Dockerfile:2: COPY --chown=who a /x
        error: unable to convert uid/gid chown string to host mapping: can't find uid for user who: no such user: who
        Dockerfile:2: COPY --chmod=9 a /x
        error: invalid chmod parameter: '9'. it should be octal string and between 0 and 07777
        error: a stage name already used
        Dockerfile:1: FROM later AS one
        error: base name "later" is a stage that is not built before this one: pull access denied for later, repository does not exist or may require 'docker login'
        Dockerfile:2: WORKDIR /etc/passwd
        error: Cannot mkdir: /etc/passwd is not a directory
        Dockerfile:2: ENV A=${B?no}
        error: failed to process "${B?no}": B: no
    "#]].assert_eq(&all);
}

#[test]
fn force_rm_cleans_up_after_failure_and_rm_does_not() {
    let mut case = Case::new();
    case.run("FROM busybox\nRUN exit 1\n");
    assert_eq!(case.host.state.lock().unwrap().containers, 1);
    case.options.force_rm = true;
    let (text, _) = case.run("FROM busybox\nRUN exit 2\n");
    assert!(text.contains("Removed intermediate container"), "{text}");
    assert_eq!(case.host.state.lock().unwrap().containers, 1);
}

#[test]
fn triggers_run_once() {
    let case = Case::new();
    case.file("a", "1");
    case.host.base("parent", |config| {
        config.config.on_build = vec!["RUN write t t".into(), "COPY a /a".into()];
    });
    let image = case
        .check(
            "FROM parent\nRUN last\n",
            &expect![[r#"
        Step 1/2 : FROM parent
        # Executing 2 build triggers
         ---> Running in <id>
         ---> Removed intermediate container <id>
         ---> <id>
        Step 2/2 : RUN last
         ---> Running in <id>
        last
        2>warned
         ---> Removed intermediate container <id>
         ---> <id>
        {aux}
        Successfully built <id>
    "#]],
        )
        .unwrap();
    assert!(image.config.config.on_build.is_empty());
    case.host.base("bad", |config| config.config.on_build = vec!["FROM x".into()]);
    assert!(case.run("FROM bad\n").0.contains("error: FROM isn't allowed as an ONBUILD trigger"));
}

#[test]
fn arguments_labels_and_warnings() {
    let mut case = Case::new();
    case.options.args.insert("USED".into(), Some("u".into()));
    case.options.args.insert("UNUSED".into(), Some("x".into()));
    case.options.args.insert("NOVALUE".into(), None);
    case.options.args.insert("http_proxy".into(), Some("p".into()));
    case.options.labels.insert("b".into(), "$x".into());
    case.options.labels.insert("a".into(), "1".into());
    let image = case.check("FROM busybox\nARG USED=d\nRUN env\n", &expect![[r#"
        Step 1/5 : FROM busybox
         ---> <id>
        Step 2/5 : ARG USED=d
         ---> Running in <id>
         ---> Removed intermediate container <id>
         ---> <id>
        Step 3/5 : RUN env
         ---> Running in <id>
        ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "USED=u", "http_proxy=p"]
         ---> Removed intermediate container <id>
         ---> <id>
        Step 4/5 : LABEL a=1
         ---> Running in <id>
         ---> Removed intermediate container <id>
         ---> <id>
        Step 5/5 : LABEL b=$x
         ---> Running in <id>
         ---> Removed intermediate container <id>
         ---> <id>
        {aux}
        [Warning] One or more build-args [NOVALUE UNUSED] were not consumed
        Successfully built <id>
    "#]]).unwrap();
    assert_eq!(image.config.config.labels["b"], "$x");
    assert!(!image.config.config.env.iter().any(|e| e.starts_with("USED")));
    expect![[r#"
        import busybox
        /bin/sh -c #(nop)  ARG USED=d (empty)
        |1 USED=u /bin/sh -c env (empty)
        /bin/sh -c #(nop)  LABEL a=1 (empty)
        /bin/sh -c #(nop)  LABEL b=$x (empty)"#]]
    .assert_eq(&Case::created_by(&image).join("\n"));
}

#[test]
fn cache_from_counts_only_steps_of_its_images() {
    let mut case = Case::new();
    let file = "FROM busybox\nRUN write a 1\nRUN write b 2\n";
    let (_, image) = case.run(file);
    let built = image.unwrap();
    case.options.cache_from = vec!["nothing".into()];
    assert_eq!(case.hits(file), 0);
    case.options.cache_from = vec![built.id.as_ref().unwrap().to_string()];
    assert_eq!(case.hits(file), 2);
    // Known by history alone: as if it had been loaded.
    case.host.state.lock().unwrap().cache.clear();
    let (text, again) = case.run(file);
    assert_eq!(text.matches("Using cache").count(), 2);
    assert_eq!(again.unwrap().config.rootfs, built.config.rootfs);
}

#[test]
fn squash_leaves_one_layer_above_the_base() {
    let mut case = Case::new();
    case.options.squash = true;
    let (text, image) =
        case.run("FROM busybox\nRUN write a 1\nRUN write b 2\nRUN write a 3\nENV X=1\n");
    let image = image.unwrap_or_else(|| panic!("{text}"));
    let tree = case.host.tree(image.id.as_ref()).unwrap();
    assert_eq!(fs::read_to_string(tree.join("a")).unwrap(), "3");
    assert!(tree.join("b").exists() && tree.join("etc/passwd").exists());
    assert_eq!(image.config.rootfs.diff_ids.len(), 2);
    assert_eq!(image.config.history.iter().filter(|h| !h.empty_layer).count(), 2);
    assert!(image.config.history.last().unwrap().comment.starts_with("merge sha256:"));
}

#[test]
fn here_documents_become_files_and_scripts() {
    let case = Case::new();
    let (text, image) = case.run(
        "FROM busybox\nENV A=1\nCOPY <<f.txt <<g /d/\n$A\nf.txt\nx\ng\nRUN <<E\n#!/bin/x\ny\nE\n",
    );
    let image = image.unwrap_or_else(|| panic!("{text}"));
    let tree = case.host.tree(image.id.as_ref()).unwrap();
    assert_eq!(fs::read_to_string(tree.join("d/f.txt")).unwrap(), "1\n");
    assert_eq!(fs::read_to_string(tree.join("d/g")).unwrap(), "x\n");
    assert!(case.host.state.lock().unwrap().ran.contains(&"/dev/pipes/E".to_owned()));
}

#[test]
fn a_target_ends_the_build_there() {
    let mut case = Case::new();
    case.options.target = Some("ONE".into());
    case.check(
        "FROM busybox AS one\nENV A=1\nFROM one\nRUN exit 1\n",
        &expect![[r#"
        Step 1/2 : FROM busybox AS one
         ---> <id>
        Step 2/2 : ENV A=1
         ---> Running in <id>
         ---> Removed intermediate container <id>
         ---> <id>
        {aux}
        Successfully built <id>
    "#]],
    );
    case.options.target = Some("nope".into());
    assert!(
        case.run("FROM busybox\n")
            .0
            .contains("error: failed to reach build target nope in Dockerfile")
    );
}

#[test]
fn many_stages_with_much_output_do_not_block() {
    let case = Case::new();
    let mut file = String::new();
    for stage in 0..20 {
        file.push_str(&format!("FROM busybox AS s{stage}\n"));
        for step in 0..40 {
            file.push_str(&format!("ENV A{stage}={step}\n"));
        }
    }
    file.push_str("FROM scratch\n");
    for stage in 0..20 {
        file.push_str(&format!("COPY --from=s{stage} /etc/passwd /{stage}\n"));
    }
    let (text, image) = case.run(&file);
    assert!(image.is_some(), "{text}");
    let steps: Vec<&str> = text.lines().filter(|l| l.starts_with("Step ")).collect();
    assert_eq!(steps.len(), 20 * 41 + 21);
    assert!(steps.iter().enumerate().all(|(i, s)| s.starts_with(&format!("Step {}/841 ", i + 1))));
}
