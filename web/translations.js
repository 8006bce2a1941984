// Some frontends (1.32 of ComfyUI 0.3.75 among them) lose the translations of every pack: they merge them first, and replace
// them when the language's own file arrives (Comfy-Org/ComfyUI_frontend#7214 mended it). This merges ours again, then and
// when the language is changed; where they are not lost it does nothing.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const OURS = "Amused";

/** The frontend's translations, or undefined in a frontend that keeps them elsewhere. */
function frontendTranslations() {
  const vue = document.getElementById("vue-app")?.__vue_app__;
  return vue?._context?.provides?.[vue.__VUE_I18N_SYMBOL__]?.global;
}

/** What this pack translates into `language`, of all packs' `translations`. */
function ours(translations, language) {
  const { nodeCategories = {}, nodeDefs = {} } = translations[language] ?? {};
  const nodes = Object.entries(nodeDefs).filter(([id]) => id.startsWith(OURS));
  return { nodeCategories, nodeDefs: Object.fromEntries(nodes) };
}

app.registerExtension({
  name: "aMUSEd.translations",
  async init() {
    const shown = frontendTranslations();
    if (!shown?.setLocaleMessage || !shown.mergeLocaleMessage) return;
    const translations = await (await api.fetchApi("/i18n")).json();
    const mend = (language) => {
      const nodes = Object.keys(shown.getLocaleMessage(language)?.nodeDefs ?? {});
      if (!nodes.some((id) => id.startsWith(OURS))) shown.mergeLocaleMessage(language, ours(translations, language));
    };
    const replace = shown.setLocaleMessage;
    shown.setLocaleMessage = (language, messages) => {
      replace(language, messages);
      // Newer frontends merge the packs' translations right after this call.
      queueMicrotask(() => mend(language));
    };
    shown.availableLocales.forEach(mend);
  },
});
