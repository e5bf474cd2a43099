import java.net.Authenticator;
import java.net.InetSocketAddress;
import java.net.PasswordAuthentication;
import java.net.ProxySelector;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;

/** Proxied URL: a program that reads HTTPS_PROXY itself. */
class Proxied {
    public static void main(String[] args) throws Exception {
        System.setProperty("jdk.http.auth.tunneling.disabledSchemes", "");
        var proxy = URI.create(System.getenv("HTTPS_PROXY"));
        var login = proxy.getUserInfo().split(":", 2);
        var client = HttpClient.newBuilder()
            .proxy(ProxySelector.of(new InetSocketAddress(proxy.getHost(), proxy.getPort())))
            .authenticator(new Authenticator() {
                @Override
                protected PasswordAuthentication getPasswordAuthentication() {
                    return getRequestorType() == RequestorType.PROXY ? new PasswordAuthentication(login[0], login[1].toCharArray()) : null;
                }
            }).build();
        var answer = client.send(HttpRequest.newBuilder(URI.create(args[0])).build(), BodyHandlers.ofByteArray());
        if (answer.statusCode() != 200) throw new RuntimeException("" + answer.statusCode());
        System.out.write(answer.body());
        System.out.flush();
    }
}
