// Runs a declarative Jenkinsfile: groovy jenkins.groovy JENKINSFILE WORKSPACE BUILD
//
// Groovy itself, `sh`, the globs and the JUnit files are real. Agents, credentials and the person at `input` are played, as settings.json in
// the folder BUILD says: {params, credentials, answer, build}. What Jenkins would show becomes lines of events.jsonl there; what it would
// keep goes to junit/ and archive/. A word that is not known here is an error, as in Jenkins.
import groovy.json.JsonOutput
import groovy.json.JsonSlurper
import java.nio.file.FileSystems

class Failed extends RuntimeException { Failed(String message) { super(message) } }

/** The words of a body with their arguments, in order: `timeout(time: 1, unit: 'DAYS')`. */
class Words {
    List all = []
    String getNone() { 'none' }
    String getAny() { 'any' }
    def methodMissing(String name, arguments) { all << [name: name, arguments: arguments as List] }
    static List of(Closure body, List known = null) {
        def words = new Words()
        Build.run(body, words)
        words.all.each { if (known && !(it.name in known)) throw new IllegalStateException("`${it.name}` is no word of this place") }
    }
}

/** The body of `environment`. */
class Environment {
    Build build
    Map set = [:]
    def getParams() { build.params }
    def credentials(String id) { build.credential(id) }
    void setProperty(String name, value) { set[name] = value.toString() }
}

class Build {
    static final WORST = ['SUCCESS', 'UNSTABLE', 'FAILURE', 'ABORTED']
    static final PARTS = ['agent', 'parameters', 'options', 'environment', 'input', 'steps', 'stages', 'post']
    File workspace, folder
    Map settings, params = [:]
    String result = 'SUCCESS', at = ''
    boolean skipsUnstable

    static void run(Closure body, delegate) { body.delegate = delegate; body.resolveStrategy = Closure.DELEGATE_ONLY; body() }
    void tell(Map event) { new File(folder, 'events.jsonl') << JsonOutput.toJson([stage: at] + event) + '\n' }
    void worsen(String to) { if (WORST.indexOf(to) > WORST.indexOf(result)) result = to }
    boolean stopped() { result in ['FAILURE', 'ABORTED'] || skipsUnstable && result == 'UNSTABLE' }
    String credential(String id) { settings.credentials[id] ?: { throw new Failed("no credentials with the id ${id}") }() }
    boolean answered(String message) { tell(input: message, answer: settings.answer); settings.answer == 'proceed' }

    /** The pipeline, and each stage. The order of the words in the text means nothing; Jenkins has its own. */
    void section(Closure body, Map env, boolean agent) {
        def words = Words.of(body, PARTS)
        def all = { part, Closure read -> words.findAll { it.name == part }.each { read(it.arguments[0]) } }
        all('parameters') { Words.of(it).each { word ->
            def how = word.arguments[0]
            params[how.name] = settings.params.getOrDefault(how.name, how.choices ? how.choices[0] : how.defaultValue)
        } }
        if (!at) env = env + params
        all('options') { tell(options: Words.of(it)); skipsUnstable |= Words.of(it).any { word -> word.name == 'skipStagesAfterUnstable' } }
        all('input') { if (!answered(Words.of(it).find { word -> word.name == 'message' }.arguments[0])) worsen('ABORTED') }
        if (stopped()) return
        all('agent') { agent = it != 'none' }
        all('environment') { def read = new Environment(build: this); run(it, read); env = env + read.set }
        tell(started: true)
        all('steps') { steps(it, env, agent) }
        all('stages') { Words.of(it, ['stage']).each { stage ->
            def outer = at
            at = at ? "${at} / ${stage.arguments[0]}" : stage.arguments[0]
            stopped() ? tell(skipped: true) : section(stage.arguments[1], env, agent)
            at = outer
        } }
        all('post') { Words.of(it).findAll { it.name in ['always', 'cleanup', result.toLowerCase()] }.each { steps(it.arguments[0], env, agent) } }
    }

    void steps(Closure body, Map env, boolean agent) {
        try {
            run(body, new Steps(build: this, env: env, agent: agent))
        } catch (Failed failed) {
            worsen('FAILURE')
            tell(failed: failed.message)
        }
    }

    /** Takes what the glob matches out of the workspace, as the steps of `post` do. */
    List<String> keep(String glob, String where) {
        def matcher = FileSystems.default.getPathMatcher("glob:${glob}"), found = []
        workspace.eachFileRecurse(groovy.io.FileType.FILES) { found << workspace.toPath().relativize(it.toPath()) }
        found.findAll { matcher.matches(it) }*.toString().sort().each {
            def kept = new File(folder, "${where}/${it}")
            kept.parentFile.mkdirs()
            kept.bytes = new File(workspace, it).bytes
        }
    }
}

class Steps {
    Build build
    Map env
    boolean agent

    def getParams() { build.params }
    def echo(message) { println message }
    def sh(script) {
        if (!agent) throw new Failed('`sh` needs an agent')
        def shell = new ProcessBuilder('sh', '-xec', script.toString()).directory(build.workspace).redirectErrorStream(true).inheritIO()
        shell.environment().putAll(build.settings.build + env)
        def exit = shell.start().waitFor()
        build.tell(sh: script.toString(), literal: script instanceof String, exit: exit)
        if (exit) throw new Failed("script returned exit code ${exit}")
    }
    def withEnv(List more, Closure body) { Build.run(body, new Steps(build: build, env: env + more.collectEntries { it.split('=', 2) as List }, agent: agent)) }
    def string(Map how) { "${how.variable}=${build.credential(how.credentialsId)}" }
    def withCredentials(List bindings, Closure body) { withEnv(bindings, body) }
    def input(String message) { if (!build.answered(message)) throw new Failed('rejected') }
    def archiveArtifacts(Map how) { build.tell(archived: build.keep(how.artifacts, 'archive')) }
    def junit(Map how) {
        def files = build.keep(how.testResults, 'junit')
        def cases = files.collectMany { new XmlSlurper().parse(new File(build.workspace, it)).testsuite.testcase.collect { it } }
        def failed = cases.count { it.failure.size() + it.error.size() > 0 }
        build.tell(junit: how, files: files, cases: cases.size(), failed: failed)
        if (!cases) throw new Failed('No test report files were found. Configuration error?')
        if (failed) build.worsen('UNSTABLE')
    }
}

def (file, workspace, folder) = args.collect { new File(it).canonicalFile }
def build = new Build(workspace: workspace, folder: folder, settings: new JsonSlurper().parse(new File(folder, 'settings.json')) as Map)
def script = new GroovyShell(new Binding()).parse(file)
script.metaClass.pipeline = { Closure body -> build.section(body, [:], false) }
script.run()
build.tell(result: build.result)
